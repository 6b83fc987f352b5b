"""TensorRT in both flavours: the library, plans, sessions, device memory."""
