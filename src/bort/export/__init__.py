"""From a fine-tuned folder to an optimised runtime model that is refused where it loses accuracy."""
