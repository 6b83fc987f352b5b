"""The spec language: text to syntax tree, and back to canonical text."""
