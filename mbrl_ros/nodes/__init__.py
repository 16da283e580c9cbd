"""ROS at the rim: a node reads parameters, converts, calls one method of its part, converts, publishes."""
