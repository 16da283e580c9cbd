"""Give each pytest run its own ROS domain, on this machine only, and one thread."""
import os
import tempfile

from mbrl_ros.nodes.domain import stay_apart

os.environ.pop('ROS_DOMAIN_ID', None)  # not that of a robot
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
stay_apart()
os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='ros_log_'))
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'  # read when a message module is imported

# Matrices are small here: threads cost more than they give, and the nodes run
# as several processes. Read when numpy and torch are imported, here and in children.
for _library in ('OMP', 'MKL', 'OPENBLAS'):
    os.environ[f'{_library}_NUM_THREADS'] = '1'

from shapes import check_shapes  # noqa: E402  (after the number of threads is set)

check_shapes()
