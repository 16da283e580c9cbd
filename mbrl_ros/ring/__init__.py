"""What runs every tick."""
