"""Nets tested as the paper tests them: one pass over the images, every row of a table."""
