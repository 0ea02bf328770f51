"""How fast models answer on this machine: contestants, fair timing, the floor below which nothing goes, and a page."""
