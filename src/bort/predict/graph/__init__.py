"""Build an ONNX graph of fused operators, in fp32 or int8, from a BERT's configuration and weights alone."""
