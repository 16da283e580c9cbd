"""How values become ROS messages, and back."""
