"""Branches and batch normalisation of a trained net folded into convs."""
