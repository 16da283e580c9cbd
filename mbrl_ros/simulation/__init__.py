"""What moves when no robot is there."""
