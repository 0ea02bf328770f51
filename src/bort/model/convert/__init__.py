"""Other formats in: original `.params` files and Hugging Face BERT folders."""
