"""How a process ended: its report for the one that started it, or its exit code in words."""

import signal
from dataclasses import dataclass

from vggspec.base.diagnostic import MissingLibraryError, Report, VggspecError


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a process stopped, as it is sent to another one."""

    reports: tuple[Report, ...] = ()
    lacking: str | None = None
    """The message about a library or device that does not exist."""

    @staticmethod
    def of(error: VggspecError | MissingLibraryError) -> "Failure":
        """The failure that ``raised`` turns into the error again."""
        if isinstance(error, VggspecError):
            return Failure(reports=error.reports)
        return Failure(lacking=str(error))

    def raised(self) -> VggspecError | MissingLibraryError:
        """The error, to be raised in another process."""
        return VggspecError(*self.reports) if self.reports else MissingLibraryError(self.lacking)


def ending(code: int | None) -> str:
    """An exit code in words; a shell adds 128 to the number of a signal, a library negates it.

    >>> ending(-9), ending(137), ending(1), ending(255)
    ('was ended by SIGKILL', 'was ended by SIGKILL', 'ended with exit code 1', \
'ended with exit code 255')
    """
    if code is not None:
        number = -code if code < 0 else code - 128
        named = next((each.name for each in signal.Signals if each == number), None)
        if named is not None:
            return f"was ended by {named}"
        if code < 0:
            return f"was ended by signal {number}"
    return f"ended with exit code {code}"
