"""ROS at the rim: a node reads parameters, converts, calls one method of its part, converts, publishes."""
import os
import signal
import sys

# Matrices are small here: threads cost more than they give, and the ring runs as several processes. Read when numpy
# and torch are imported, which is after this package.
for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

if sys.argv[:1] == ["-m"]:  # `python3 -m mbrl_ros.nodes.NAME` imports this first
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # quiet until main() takes over; importing torch takes a second
