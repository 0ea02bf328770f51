"""What a Bort is: shapes, weights, tokens, and the formats they come in."""
