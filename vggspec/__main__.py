"""``python -m vggspec``, and the command ``vggspec``."""

import os

try:
    from vggspec.base import interrupt
except KeyboardInterrupt:  # its handlers are not installed yet
    os.write(2, b"interrupted\n")
    os._exit(130)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """Run the command line and leave with its exit code."""
    interrupt.run(_work)


def _work() -> int:
    from vggspec.cli import work

    return work()


if __name__ == "__main__":
    main()
