"""Many rows, and many files: read in blocks, answered here, in processes or on a cluster, and written whole."""
