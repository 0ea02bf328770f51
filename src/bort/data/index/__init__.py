"""Large collections of texts with a vector each, on disk: written in pieces, searched exactly."""
