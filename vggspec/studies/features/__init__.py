"""Descriptors of images from the layers of nets, and a linear SVM on them (appendix B)."""
