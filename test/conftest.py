"""Give each pytest run its own ROS domain, on this machine only, and one thread."""
import atexit
import os
import socket
import tempfile


def _claim_domain():
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        lock = socket.socket()
        try:
            lock.bind(('127.0.0.1', 24000 + domain))
            return domain, lock
        except OSError:
            lock.close()
    raise RuntimeError('no free ROS domain')


_domain, _lock = _claim_domain()  # the bound socket holds the claim until exit
atexit.register(_lock.close)
os.environ['ROS_DOMAIN_ID'] = str(_domain)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='ros_log_'))
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'  # read when a message module is imported

# Matrices are small here: threads cost more than they give, and the nodes run
# as several processes. Read when numpy and torch are imported, here and in children.
for _library in ('OMP', 'MKL', 'OPENBLAS'):
    os.environ[f'{_library}_NUM_THREADS'] = '1'

from shapes import check_shapes  # noqa: E402  (after the number of threads is set)

check_shapes()
