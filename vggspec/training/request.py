"""The request of a caller of ``train``, and the spec, settings and data that follow from it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vggspec.base.arguments import (
    MAX_SEED,
    as_whole,
    check_choice,
    check_flag,
    check_number,
    check_whole,
)
from vggspec.base.diagnostic import ArgumentError, Report, VggspecError, report
from vggspec.base.reports import Reports
from vggspec.base.run_record import RECORD
from vggspec.base.source import Source
from vggspec.bundle.manifest import MANIFEST
from vggspec.compiler.lower import Lowered, base_folder, lower
from vggspec.data.remote import is_remote
from vggspec.lang.loading import find_spec, load, pick
from vggspec.lang.parser import parse
from vggspec.lang.sections import read_experiment
from vggspec.training.record import read_record

if TYPE_CHECKING:
    from vggspec.lang.ast import Setting, Spec

TrainPrecision = Literal["fp32", "tf32", "bf16"]
Validate = Literal["crop", "dense"]

SAVE_EVERY_S = 600.0
"""Seconds between checkpoints, unless it is said otherwise."""

CHANGED = "# --set "


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """The arguments of ``train``."""

    spec: str
    data: str | None = None
    run: str | None = None
    resume: bool = False
    settings: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    seed: int | None = None
    gpus: int | None = None
    procs: int | None = None
    workers: int | None = None
    precision: TrainPrecision | None = None
    micro_batch: int | None = None
    compile: bool = False
    validate: Validate | None = None
    save_every_s: float = SAVE_EVERY_S
    keep_every: int | None = None

    def __post_init__(self) -> None:
        """Check what holds for every net.

        Raises:
            TypeError: a number is not a whole one, or a flag neither True nor False.
            ArgumentError: a number is out of range, or a word is none of the choices.
        """
        check_choice("precision", self.precision, TrainPrecision)
        check_choice("validate", self.validate, Validate)
        check_whole("seed", self.seed, least=0, most=MAX_SEED)
        check_whole("gpus", self.gpus, least=0)
        check_whole("procs", self.procs, least=1)
        check_whole("workers", self.workers, least=0)
        check_whole("micro_batch", self.micro_batch, least=1)
        check_number("save_every_s", self.save_every_s, least=0)
        check_whole("keep_every", self.keep_every, least=1)
        for name in ("resume", "compile"):
            check_flag(name, getattr(self, name))
        for name in ("seed", "gpus", "procs", "workers", "micro_batch", "keep_every"):
            value = getattr(self, name)
            if value is not None:  # the record of a run is JSON, which takes none of numpy's
                object.__setattr__(self, name, as_whole(name, value))


def read_target(target: str) -> "tuple[Spec, dict[str, Any] | None]":
    """The spec, or the spec and the record of a run.

    A folder that is not that of a run does not hide a spec of its name.

    Raises:
        ArgumentError: the target is a folder, but not that of a run, and no spec has its name.
        VggspecError: it cannot be read, or has mistakes.
    """
    if not Path(target).is_dir():
        return load(target), None
    if not is_run(target):
        if os.path.isfile(find_spec(target)):
            return load(target), None
        is_bundle = (Path(target) / MANIFEST).exists()
        kind = "a bundle" if is_bundle else "a folder, but not that of a run"
        raise ArgumentError(f"`{target}` is {kind}; name a spec, or the folder of a run.")
    record = read_record(Path(target))
    text = record["spec_text"].partition(f"\n{CHANGED}")[0]
    return pick(parse(Source(record["spec"], f"{text}\n")), record["net"]), record


def is_run(target: str) -> bool:
    """Whether it is the folder of a run."""
    return (Path(target) / RECORD).exists()


def merged(record: Mapping[str, Any] | None, given: Sequence[str]) -> tuple[str, ...]:
    """The settings of a run's record, and those given now, which replace them."""
    begun = record["settings"] if record else ()

    def key(setting: str) -> tuple[str, bool]:
        words = setting.replace("=", " ", 1).casefold().split()
        return (words or [""])[0], words[1:2] in (["from"], ["when"])

    keys = {key(setting) for setting in given}
    return (*(setting for setting in begun if key(setting) not in keys), *given)


def started_from(record: Mapping[str, Any] | None, settings: Sequence[str]) -> tuple[str, ...]:
    """The weights that a run started from, unless the settings ask for others."""
    if record is None or any(
        re.match(r"\s*start[\s=]+from\b", each, re.IGNORECASE) for each in settings
    ):
        return ()
    return tuple(dict.fromkeys(each["weights"] for each in record["started_from"]))


def changed(written: "Spec", settings: Sequence[str]) -> Lowered:
    """The spec as a net and a recipe, with settings of the recipe changed.

    Raises:
        VggspecError: the spec or a setting has mistakes.
    """
    lowered = lower(written)
    if not settings:
        return lowered
    with_settings = _with_settings(written, lowered, settings)
    try:
        return lower(with_settings)
    except VggspecError as error:  # they contradict the spec or its net, and have no place in it
        raise VggspecError(*(report(one.what, path="--set") for one in error.reports)) from error


def data_folder(given: str | None, lowered: Lowered) -> Path:
    """The folder of the images: the one given, else the spec's, else the environment's."""
    written = lowered.experiment.train.data
    if given is not None:
        return Path(given)
    if written is not None and is_remote(written):
        return Path(written)
    if written is not None:
        return base_folder(lowered.spec) / written
    return Path(os.environ.get("VGGSPEC_DATA") or "data")


def _with_settings(spec: "Spec", lowered: Lowered, settings: Sequence[str]) -> "Spec":
    """The spec with other lines in its ``train:`` section.

    Raises:
        VggspecError: one of them is not a line of that section.
    """
    lines = [setting.replace("=", " ", 1).strip() for setting in settings]
    text = "\n".join(["net changed", "train:", *(f"  {line}" for line in lines)])
    try:
        other = parse(Source("--set", f"{text}\n")).specs[0]
        reports = Reports()
        image = lowered.network.input
        labels_pixels = lowered.network.outputs[0].name == "posterior_map"
        size = image.height, image.width
        read_experiment(other, size, reports, is_whole=False, labels_pixels=labels_pixels)
        reports.raise_if_any()
    except VggspecError as error:
        raise VggspecError(*(_at_setting(one, settings) for one in error.reports)) from error
    keys = {_key(setting) for setting in other.train}
    kept = [setting for setting in spec.train if _key(setting) not in keys]
    record = "".join(f"\n{CHANGED}{setting}" for setting in settings)
    source = Source(spec.source.name, f"{spec.source.text.rstrip()}\n{record}\n")
    return replace(spec, train=(*kept, *other.train), source=source)


def _at_setting(found: Report, settings: Sequence[str]) -> Report:
    """A report on the lines that ``_with_settings`` makes of settings, at the setting itself."""
    place = "--set"
    if found.source is not None and found.span is not None:
        owners = [each for each in settings for _ in each.strip().split("\n")]
        line = found.source.locate(found.span.start).line - 3  # after `net` and `train:`
        place += f" {owners[line]}" if 0 <= line < len(owners) else ""
    return report(found.what, path=place)


def _key(setting: "Setting") -> tuple[str, str]:
    """The setting, and its second word where that tells it from another one."""
    first, second, *_ = [*(word.text.casefold() for word in setting.words), ""]
    is_part = second in ("from", "when", "of", "batch")
    return first.replace("color", "colour"), second if is_part else ""
