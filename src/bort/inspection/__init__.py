"""What is in labelled texts, which labels are probably wrong, and which texts to label next."""
