"""Specs from ONNX models."""
