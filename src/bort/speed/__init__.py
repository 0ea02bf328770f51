"""How fast models answer on this machine, side by side."""
