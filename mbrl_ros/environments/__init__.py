"""What acts and learns from reward: environments, ours and other people's. The protocol is in environment.py."""
