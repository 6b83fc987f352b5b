"""Optional libraries, and the commands that install them."""

import importlib
import importlib.util
import logging
import warnings
from types import ModuleType

from vggspec.base.diagnostic import MissingLibraryError

#: Each library with the extra that installs it.
EXTRAS = {
    "torch": "train",
    "matplotlib": "train",
    "tensorboard": "train",
    "webdataset": "train",
    "sklearn": "svm",
    "pycuda": "cuda",
    "h5py": "keras",
    "torchvision": "augment",
    "pyarrow": "parquet",
    "openvino": "openvino",
}


def require(library: str, purpose: str, extra: str | None = None) -> ModuleType:
    """Import an optional library; ``extra`` names another extra than its own.

    Raises:
        MissingLibraryError: it is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        by = extra or EXTRAS[library]
        message = f'{purpose} needs {library}: pip install "vggspec[{by}]"'
        raise MissingLibraryError(message) from error


def has_library(library: str) -> bool:
    """Whether a library is installed; it is not imported."""
    return importlib.util.find_spec(library) is not None


def silence_pillow() -> None:
    """Silence the warnings of Pillow in this process, which the command line owns.

    Problems of an image are reported separately. Filters belong to the whole process, so this is
    done once, before threads decode, and never where vggspec is a library.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
