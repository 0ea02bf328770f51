"""Imports other formats: original `.params` files and Hugging Face BERT folders."""
