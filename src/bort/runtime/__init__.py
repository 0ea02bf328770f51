"""Out of the door: the predictor and what it writes."""
