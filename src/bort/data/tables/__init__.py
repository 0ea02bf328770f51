"""Labelled and unlabelled tables: read, checked, written."""
