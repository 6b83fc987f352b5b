"""Libraries that not every installation has, named with the command that installs them."""

import importlib
from types import ModuleType

from vggspec.diagnostic import MissingLibraryError

#: Library to the extra that brings it.
EXTRAS = {"torch": "train", "sklearn": "demo"}


def require(library: str, purpose: str) -> ModuleType:
    """Import a library that an extra brings.

    Raises:
        MissingLibraryError: it is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        extra = EXTRAS[library]
        message = f'{purpose} needs {library}: pip install "vggspec[{extra}]"'
        raise MissingLibraryError(message) from error
