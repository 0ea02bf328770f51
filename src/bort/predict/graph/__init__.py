"""A BERT as an ONNX graph of fused operators, in fp32 or int8, from its configuration and weights alone."""
