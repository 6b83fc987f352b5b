"""``python -m vggspec``, and the command ``vggspec``."""

from vggspec.base import interrupt

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
