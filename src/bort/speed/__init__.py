"""Speed comparison of models on this machine."""
