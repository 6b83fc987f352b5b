"""What is closed at the end of a ``with`` statement."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Something with a ``close``, which a ``with`` statement calls at its end."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
