"""What an error tells: the whole report, as the command line shows it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vggspec.base.diagnostic import VggspecError
from vggspec.base.render import as_text


def told(error: BaseException) -> str:
    """All that an error has to say."""
    return as_text(error.reports) if isinstance(error, VggspecError) else str(error)


@contextmanager
def refused(pattern: str) -> Iterator[pytest.ExceptionInfo[VggspecError]]:
    """That a ``VggspecError`` is raised whose whole text matches ``pattern``."""
    with pytest.raises(VggspecError) as caught:
        yield caught
    assert re.search(pattern, told(caught.value)), told(caught.value)
