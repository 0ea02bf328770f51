"""Inspection of labelled texts: problems in the data, probable label errors, and which texts to label next."""
