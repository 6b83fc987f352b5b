"""What TensorRT logs: one logger for the process, and its messages in one readable form."""

import functools
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from vggspec.base.wording import foreign
from vggspec.runtime.tensorrt import library as seam

#: TensorRT's severities; 0 is an internal error.
ERROR, WARNING, INFO, VERBOSE = 1, 2, 3, 4

REMEMBERED = 20  # latest complaints
MAX_REASON = 300  # characters

#: How a warning begins that is not one: another program in the process has made a logger too.
OTHER_LOGGER = "The logger passed into "

Listener = Callable[[int, str], None]

log = logging.getLogger("vggspec.tensorrt")


@dataclass(slots=True)
class Heard:
    """TensorRT's latest errors and warnings, and the other listeners."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _listeners: tuple[Listener, ...] = ()

    def __call__(self, severity: int, text: str) -> None:
        """Take a message. Errors are kept, since they will be raised; warnings are logged unless a
        listener is registered.
        """
        if severity <= ERROR:
            self.lines.append(text)
        for listener in self._listeners:
            listener(severity, text)
        is_news = severity == WARNING and not self._listeners and not text.startswith(OTHER_LOGGER)
        log.log(logging.WARNING if is_news else logging.DEBUG, "%s", text)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Pass every message to ``listener`` too, from TensorRT's threads."""
        self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def forget(self) -> None:
        """Drop earlier complaints: they are not the cause of what comes next."""
        self.lines.clear()

    def told(self, otherwise: str) -> str:
        """The first complaint since the last call, which is the cause of the others."""
        text = clean(self.lines[0]) if self.lines else ""
        self.lines.clear()
        return text or otherwise


@functools.cache
def logger(trt: Any) -> tuple[Heard, Any]:
    """The process's logger of a TensorRT library, and what it has heard.

    TensorRT keeps the first logger that it is given for all objects, even after that logger's own
    object is gone. So there is one, made once.
    """
    heard = Heard()
    return heard, seam.make_logger(trt, heard)


def clean(text: str) -> str:
    """TensorRT's message on one line, without places in its source, function names and codes."""
    text = " ".join(text.split())
    if "Plugin not found" in text:
        return "it has no such operator"
    from_cuda = re.search(r"(?:cudaError|code) \d+: ([^)]+)\)", text)
    if from_cuda:
        return from_cuda[1]
    text = re.sub(r"\bIn \w+ at /\S+?:\d+", "", text)
    coded = re.search(r"Error Code \d+: ([^(]*)\((.*)\)", text)
    if coded:
        text = coded[2].strip() or coded[1]
    return foreign(re.sub(r"\[[\w.]+:\d+: \w+\] ", "", text), MAX_REASON)
