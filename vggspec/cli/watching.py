"""Other names for ``vggspec.cli.progress``, for commands that do not use a watcher yet."""

from vggspec.cli.progress import _one_line as one_line
from vggspec.cli.progress import duration, joined, with_bar
from vggspec.cli.train_progress import train_shown as watching

__all__ = ["duration", "joined", "one_line", "watching", "with_bar"]
