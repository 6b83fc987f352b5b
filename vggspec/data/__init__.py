"""Data sets: which images, of which class, with which boxes; and from a file to pixels."""
