"""Descriptors of images from the layers of nets, and linear SVMs on them (appendix B)."""
