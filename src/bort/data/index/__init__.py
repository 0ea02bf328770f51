"""Large on-disk collections of texts and their vectors: written incrementally, searched exactly."""
