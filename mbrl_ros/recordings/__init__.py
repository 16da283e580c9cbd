"""What was, kept."""
