"""Text and tables in."""
