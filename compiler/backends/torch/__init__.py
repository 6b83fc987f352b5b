"""PyTorch: a module, and source code."""
