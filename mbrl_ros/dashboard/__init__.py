"""A page in the browser that shows the ring and asks of it: no ROS in here, nodes/dashboard.py has that."""
