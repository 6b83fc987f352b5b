"""The figures that the documentation states, each measured beside its peer in one run."""
