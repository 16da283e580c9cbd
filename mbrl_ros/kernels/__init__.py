"""Which arithmetic is compiled."""
