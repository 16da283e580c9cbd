"""Installs the ROS-free part with pip; the ROS build is CMakeLists.txt."""
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

setup(
    name='mbrl_ros',
    version=ElementTree.parse(Path(__file__).with_name('package.xml')).findtext('version'),
    packages=find_packages(include=('mbrl_ros', 'mbrl_ros.*')),
    python_requires='>=3.11',
    # Without bounds: over a ROS distribution its own NumPy has to stay. Tested versions: requirements.txt.
    install_requires=['numpy', 'scipy', 'numba', 'torch', 'gpytorch', 'mujoco', 'pyyaml', 'matplotlib', 'pillow',
                      'rosbags', 'mcap', 'zstandard', 'jaxtyping'],
)
