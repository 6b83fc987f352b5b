"""Training as in section 3.1 of the paper: call ``vggspec.training.train.train``."""
