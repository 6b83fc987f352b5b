"""Run folders, ``runs/<net>/<date>-<number>/``: one for each run, none ever written over."""

import itertools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

from vggspec.catalogue.artefacts import CannotWrite, InTheWay, NoWeights
from vggspec.catalogue.runs import RunInUse
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason

RUNS = Path("runs")
BEST = "best.safetensors"
LAST = "last.safetensors"
CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
RECORD = "run.json"

_RUN = re.compile(r"(\d{4}-\d{2}-\d{2})-(\d{1,9})")


def new_run(net: str, root: Path = RUNS, *, day: date | None = None) -> Path:
    """Make the next free folder ``<root>/<net>/<date>-<number>``; today's where no day is given.

    Raises:
        VggspecError: the system refuses.
    """
    folder = root / net
    day = day or datetime.now().astimezone().date()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1 + _last_number(folder, day)):
            run = folder / f"{day.isoformat()}-{number}"
            try:
                run.mkdir()
            except FileExistsError:
                continue  # another run began at the same moment
            return run
    except OSError as error:
        raise VggspecError(report(CannotWrite(reason=reason(error)), path=str(folder))) from error
    raise AssertionError("the count does not end")


def named_run(path: Path) -> Path:
    """Make the folder that the user names; an empty one that is there will do, or one with no more
    in it than a run has that was killed before its first ``run.json`` was there.

    Raises:
        VggspecError: something else is in it, or the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not all(map(_is_begun, path.iterdir())):
            raise VggspecError(report(InTheWay(what="a folder with files"), path=str(path)))
    except FileExistsError as error:
        raise VggspecError(report(InTheWay(what="a file"), path=str(path))) from error
    except OSError as error:
        raise VggspecError(report(CannotWrite(reason=reason(error)), path=str(path))) from error
    return path


def _is_begun(path: Path) -> bool:
    """Whether this in a folder is what a run leaves that has not come to its record."""
    is_record = path.name.startswith(f".{RECORD}.") and path.suffix == ".tmp"
    return is_record or (path.name == LOG and path.is_file() and not path.stat().st_size)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes out of a run, as long as the block and this process last.

    Raises:
        VggspecError: another has it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        raise VggspecError(report(RunInUse(), path=str(run))) from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(folder)


def newest_best(net: str, root: Path = RUNS) -> Path | None:
    """The best weights of the newest run of a net that has any."""
    found = {}
    for weights in (root / net).glob(f"*/{BEST}"):
        match = _RUN.fullmatch(weights.parent.name)
        if match is not None and weights.is_file():
            found[match[1], int(match[2])] = weights
    return found[max(found)] if found else None


def newest_run(net: str, root: Path = RUNS) -> Path | None:
    """The newest run of a net."""
    found = {}
    for record in (root / net).glob(f"*/{RECORD}"):
        match = _RUN.fullmatch(record.parent.name)
        if match is not None:
            found[match[1], int(match[2])] = record.parent
    return found[max(found)] if found else None


def epoch_file(epoch: int) -> str:
    """The name of weights that are kept after an epoch."""
    return f"epoch-{epoch:03}.safetensors"


def find_weights(net: str, spec: str, root: Path = RUNS) -> Path:
    """The best weights of the newest run of a net, else ``<net>.safetensors`` beside its spec, or
    in the working folder, where ``vggspec import`` and ``init`` write it.

    Raises:
        VggspecError: there are none; it says how to get some.
    """
    best = newest_best(net, root)
    if best is not None:
        return best
    name = f"{net}.safetensors"
    places = list(dict.fromkeys((Path(spec).parent / name, Path(name))))
    for place in places:
        if place.is_file():
            return place
    what = NoWeights(net=net, spec=spec, looked=(f"{root / net}/", *map(str, places)))
    raise VggspecError(report(what, path=spec))


def _last_number(folder: Path, day: date) -> int:
    matches = (_RUN.fullmatch(path.name) for path in folder.iterdir())
    numbers = (int(match[2]) for match in matches if match and match[1] == day.isoformat())
    return max(numbers, default=0)
