"""The Bort model: shapes, weights, tokenizers and checkpoint formats."""
