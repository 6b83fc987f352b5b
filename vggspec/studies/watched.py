"""A watcher for the readers of annotations, which report progress through a callable."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from vggspec.base.watching import Progress, Watcher


def paced(
    watch: Watcher,
) -> Callable[[str, int, str], AbstractContextManager[Callable[[int], object]]]:
    """A ``vggspec.data.annotated.Pacing`` that reports to ``watch``."""

    @contextmanager
    def pacing(doing: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
        def show(done: int) -> None:
            watch.progress(Progress(doing=doing, done=done, total=total, unit=unit))

        yield show

    return pacing
