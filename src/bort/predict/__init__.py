"""Prediction from a model folder: the predictor, its engines, and the manifest of an exported folder."""
