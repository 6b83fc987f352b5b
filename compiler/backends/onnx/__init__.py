"""ONNX: graphs and models."""
