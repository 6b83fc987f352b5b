"""Library calls by several ranks at once, which are threads of this process."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from vggspec.studies.tasks import work
from vggspec.studies.tasks.ranks import Ranks

T = TypeVar("T")


def by_ranks(size: int, call: Callable[[int], T], monkeypatch: pytest.MonkeyPatch) -> list[T]:
    """What ``call`` returns on each rank; it takes the rank's number."""
    store, mine = HashStore(), threading.local()

    def run(rank: int) -> T:
        mine.ranks = Ranks(rank, size, lambda: store)
        try:
            return call(rank)
        finally:
            mine.ranks.leave("it ended")

    with monkeypatch.context() as patch, ThreadPoolExecutor(size) as pool:
        patch.setattr(work, "joined", lambda: mine.ranks)
        return list(pool.map(run, range(size)))
