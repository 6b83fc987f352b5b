"""Run folders, ``runs/<net>/<date>-<number>/``: one for each run, never overwritten."""

import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from vggspec.base.catalogue.artefacts import CannotWrite, InTheWay, NoWeights
from vggspec.base.catalogue.runs import RunInUse
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.locking import lock
from vggspec.base.regular_files import read_file
from vggspec.base.run_record import MAX_RECORD_BYTES, RECORD
from vggspec.base.wording import reason
from vggspec.lang.loading import as_named

RUNS = Path("runs")
BEST = "best.safetensors"
LAST = "last.safetensors"
CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"

MEAN_IOU = "mean IoU"
"""What decides between the epochs of a net of label maps; of errors, the smaller is better."""

#: Exceptions of reading a record that is missing, damaged or another program's.
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError,
    StopIteration,
)  # fmt: skip

#: Epochs and steps that no run reaches.
MOST = 10**12

#: An older run did better by far where its validation error is lower by at least a point, and is at
#: most four fifths of the newest run's.
LOWER_BY, LOWER_TIMES = 0.01, 0.8

_RUN = re.compile(r"(\d{4}-\d{2}-\d{2})-(\d{1,9})")


def new_run(net: str, root: Path = RUNS, *, day: date | None = None) -> Path:
    """Create the next free folder ``<root>/<net>/<date>-<number>``; the default day is today.

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
    """Create the folder that the user names. It may exist if it is empty, or contains only
    leftovers of a run that was killed before it wrote ``run.json``.

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
    """Whether a run that was killed before it wrote its record leaves this file."""
    is_record = path.name.startswith(f".{RECORD}.") and path.suffix == ".tmp"
    return is_record or (path.name == LOG and path.is_file() and not path.stat().st_size)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes out of a run during the block.

    Raises:
        VggspecError: another process trains it.
    """
    if sys.platform == "win32":  # a folder cannot be opened there
        yield
        return
    folder = os.open(run, os.O_RDONLY)
    try:
        lock(folder)
    except BlockingIOError as error:
        os.close(folder)
        raise VggspecError(report(RunInUse(), path=str(run))) from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(folder)


def _with_best(net: str, root: Path) -> list[Path]:
    """The runs of a net that have best weights, from the newest to the oldest."""
    found = {}
    for weights in (root / net).glob(f"*/{BEST}"):
        match = _RUN.fullmatch(weights.parent.name)
        if match is not None and weights.is_file():
            found[match[1], int(match[2])] = weights.parent
    return [found[key] for key in sorted(found, reverse=True)]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundWeights:
    """Weights that were found without being named, and their error."""

    path: Path
    about: str = ""
    """Their error, epoch and date, in words."""

    notes: tuple[str, ...] = ()
    """Reasons to prefer other weights, in words."""

    def in_words(self) -> str:
        """The path and the error, in a line."""
        return f"{self.path}{', ' if self.about else ''}{self.about}"


def find_weights(net: str, spec: str, root: Path = RUNS, *, option: str) -> FoundWeights:
    """The best weights of the newest run of a net, else ``<net>.safetensors`` beside its spec, or
    in the working folder, where ``vggspec import`` and ``init`` write it.

    A note says if the newest run was not finished or is not of its spec's length, or if an older
    one of the same net has a much lower error; ``option`` is the option that takes other weights.

    Raises:
        VggspecError: no weights exist; the message says how to create them.
    """
    runs = _with_best(net, root)
    if runs:
        return _found(runs, newest_run(net, root), option)
    places = places_beside(net, spec)
    for place in places:
        if place.is_file():
            return FoundWeights(path=place)
    looked = (f"{root / net}/", *map(str, places))
    what = NoWeights(net=net, spec=as_named(spec, net), looked=looked)
    raise VggspecError(report(what, path=spec))


def places_beside(net: str, spec: str) -> tuple[Path, ...]:
    """Where imported weights of a net may be: beside its spec, and in the working folder."""
    name = f"{net}.safetensors"
    return tuple(dict.fromkeys((Path(spec).parent / name, Path(name))))


def _found(runs: Sequence[Path], newest: Path | None, option: str) -> FoundWeights:
    """The best weights of the first run, with notes about it and the others."""
    run, *older = runs
    ours = _Outcome.of(run)
    notes = []
    if newest is not None and newest not in runs and newest.name != run.name:
        notes.append(f"{newest} is newer and has no weights yet: none of its epochs is over")
    notes += ours.doubts
    likes = [each for each in map(_Outcome.of, older) if ours.is_like(each)]
    best = min(likes, key=lambda each: each.error or 0.0, default=None)
    if best is not None and ours.is_far_behind(best):
        weights = shlex.join([*option.split(), str(best.run / BEST)])
        notes.append(f"{best.run} did better by far, {best.in_words()}; to take it: {weights}")
    return FoundWeights(path=run / BEST, about=ours.in_words(), notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """The result in a run's record, as far as it can be read."""

    run: Path
    kind: str = ""
    """Of the error that counts: ``top-1``."""

    error: float | None = None
    epoch: int = 0
    doubts: tuple[str, ...] = ()
    net: tuple[object, ...] = ()
    """Identifies weights of the same net for the same images."""

    @classmethod
    def of(cls, run: Path) -> "_Outcome":
        path = run / RECORD
        try:
            record = json.loads(read_file(path, MAX_RECORD_BYTES))
            result, best, data = record["result"], record["result"]["best"], record["data"]
            kind, error = _deciding(best["validation"])
            if not (isinstance(error, int | float) and 0 <= error <= 1):
                return cls(run=run)
            epoch, stopped = int(best["epoch"]), _stops(record["settings"])
            if not 0 < epoch < MOST or not 0 < int(result["step"]) < MOST:
                return cls(run=run)
            return cls(
                run=run,
                kind=str(kind),
                error=float(error),
                epoch=epoch,
                doubts=_doubts(run, result, stopped),
                net=(record["layers"], data["classes"], data["fingerprint"]),
            )
        except UNREADABLE:
            return cls(run=run)

    def in_words(self) -> str:
        """``error 2.50% after epoch 3, 2026-11-26 10:12``"""
        with suppress(OSError, ValueError, OverflowError):
            when = datetime.fromtimestamp((self.run / BEST).stat().st_mtime).astimezone()
            date = f"{when:%Y-%m-%d %H:%M}"
            if self.error is None:
                return f"of {date}, with an unknown error"
            is_iou = self.kind == MEAN_IOU
            what = f"{MEAN_IOU} {1 - self.error:.2%}" if is_iou else f"error {self.error:.2%}"
            return f"validation {what} after epoch {self.epoch}, {date}"
        return ""

    def is_like(self, other: "_Outcome") -> bool:
        """Whether the errors of two runs can be compared, and their weights exchanged."""
        are_known = self.error is not None and other.error is not None
        return are_known and (self.kind, self.net) == (other.kind, other.net)

    def is_far_behind(self, other: "_Outcome") -> bool:
        """Whether the other's error is lower by a point or more and by a fifth or more."""
        ours, theirs = self.error or 0.0, other.error or 0.0
        return theirs <= ours - LOWER_BY and theirs <= ours * LOWER_TIMES


def _deciding(validation: Mapping[str, Any]) -> tuple[str, float]:
    """What decides in a validation's result, as an error: the smaller the better."""
    if validation.get("scores"):
        return MEAN_IOU, 1 - validation["scores"][MEAN_IOU]
    kind, error = next(iter(validation["errors"].items()))
    return kind, error


def _stops(settings: Sequence[str]) -> list[str]:
    return [each for each in settings if re.match(r"\s*stop\b", each)]


def _doubts(run: Path, result: Mapping[str, Any], stopped: Sequence[str]) -> tuple[str, ...]:
    """Whether a run was not finished, or its length is not its spec's, in words."""
    step = int(result["step"])
    steps = f"{step} step{'s' if step != 1 else ''}"
    if result["was_stopped"]:
        return (f"{run} was not finished: it has come to {steps}",)
    if stopped:
        setting = shlex.quote(" ".join(stopped[-1].split()))
        how = f"`--set {setting}`" if len(setting) < 80 else "another `stop` than its spec's"
        return (f"{run} was trained for {steps}, by {how}",)
    return ()


def _last_number(folder: Path, day: date) -> int:
    matches = (_RUN.fullmatch(path.name) for path in folder.iterdir())
    numbers = (int(match[2]) for match in matches if match and match[1] == day.isoformat())
    return max(numbers, default=0)
