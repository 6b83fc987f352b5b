"""Checkpoints of other tools as the parameters of a net."""
