"""Serving over HTTP, with a page to try the model."""
