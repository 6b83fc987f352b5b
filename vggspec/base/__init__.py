"""What every room speaks of: text and places in it, diagnostics, files, JSON from strangers."""
