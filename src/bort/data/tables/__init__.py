"""Reading, checking and writing of labelled and unlabelled tables."""
