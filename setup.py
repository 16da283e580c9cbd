"""Installs the ROS-free part with pip; the ROS build is CMakeLists.txt."""
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

HERE = Path(__file__).parent
TRAINING, DASHBOARD, DOCS = ['gymnasium'], ['viser==1.1.1'], ['sphinx', 'myst-parser', 'furo', 'latex2mathml']
# viser is pinned: what keeps the page to this machine replaces parts of it that it promises nobody
# (mbrl_ros/dashboard/server.py); tests hold it to that.
GP, PLOTS, CLUSTER = ['gpytorch'], ['matplotlib'], ['ray']


def data():
    """Shipped settings and message definitions, which mbrl_ros.config.share finds."""
    for folder in ('config', 'msg', 'srv', 'action'):
        for path in sorted((HERE / folder).rglob('*')):
            if path.is_file():
                yield f'share/mbrl_ros/{path.parent.relative_to(HERE)}', [str(path.relative_to(HERE))]


setup(
    name='mbrl_ros',
    version=ElementTree.parse(HERE / 'package.xml').findtext('version'),
    description='Model-based reinforcement learning for robot arms under effort commands, with or without ROS 2',
    license='Apache-2.0',
    packages=find_packages(include=('mbrl_ros', 'mbrl_ros.*')),
    data_files=list(data()),
    python_requires='>=3.11',
    # Without bounds: over a ROS distribution its own NumPy has to stay. Tested versions: requirements.txt.
    install_requires=['numpy', 'scipy', 'numba', 'torch', 'mujoco', 'pyyaml', 'rosbags', 'mcap', 'zstandard',
                      'jaxtyping', 'pillow'],
    extras_require={'gp': GP, 'plots': PLOTS, 'training': TRAINING, 'dashboard': DASHBOARD, 'docs': DOCS,
                    'cluster': CLUSTER, 'all': [*GP, *PLOTS, *TRAINING, *DASHBOARD]},
)
