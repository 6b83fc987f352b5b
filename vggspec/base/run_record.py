"""The file in which a training run records its settings and its results: ``run.json``."""

from pathlib import Path

from vggspec.base.catalogue.runs import BadRecord, NoRun
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, Fields, parse_object
from vggspec.base.regular_files import read_file
from vggspec.base.wording import reason

RECORD = "run.json"

#: A record of a thousand classes and layers takes a hundredth of this.
MAX_RECORD_BYTES = 16 << 20


def record_fields(run: Path) -> Fields:
    """The record of the run in a folder; its fields are not checked.

    Raises:
        VggspecError: it does not exist, or is no JSON object.
    """
    path = run / RECORD
    try:
        return parse_object(read_file(path, MAX_RECORD_BYTES), has_paths=True)
    except FileNotFoundError as error:
        what = NoRun(reason=f"`{run}` has no {RECORD}")
        raise VggspecError(report(what, path=str(run))) from error
    except OSError as error:
        raise VggspecError(report(BadRecord(reason=reason(error)), path=str(path))) from error
    except BadFieldError as error:
        raise damaged_record(run, error) from error


def damaged_record(run: Path, error: BadFieldError) -> VggspecError:
    """The error of a record with a field that is missing or malformed."""
    return VggspecError(report(BadRecord(reason=str(error)), path=str(run / RECORD)))
