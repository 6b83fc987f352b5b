"""``bench``: how fast bundles are on this machine, and whether their answers agree."""
