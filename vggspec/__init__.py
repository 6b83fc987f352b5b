"""vggspec: write a network as a column of the VGG paper's table, and train, compile, apply it."""

__version__ = "0.1.0"
