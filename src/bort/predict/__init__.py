"""From a folder to answers: the predictor, its engines, and what an exported folder says of itself."""
