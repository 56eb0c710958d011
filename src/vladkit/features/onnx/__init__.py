"""Networks in ONNX files as extractors of local features."""
