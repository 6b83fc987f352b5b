"""TensorRT: engines built and refitted."""
