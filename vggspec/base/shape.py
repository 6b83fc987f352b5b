"""Shapes of arrays."""

Shape = tuple[int, ...]
