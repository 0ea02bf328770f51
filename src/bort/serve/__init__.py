"""Answers over HTTP, and a page to try the model on."""
