"""The record of a run: ``run.json``, from which it can be repeated, and ``log.jsonl``."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vggspec.base.catalogue.runs import OtherRun
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.files import refusals, write_text
from vggspec.base.optional import has_library
from vggspec.base.render import shown
from vggspec.base.run_record import RECORD, damaged_record, record_fields
from vggspec.base.version import __version__
from vggspec.bundle.manifest import MAX_SPEC
from vggspec.training.runs import LOG
from vggspec.training.statistics import Statistics

if TYPE_CHECKING:
    from vggspec.compiler.lower import Lowered
    from vggspec.training.dataset import DataSet
    from vggspec.training.progress import Epoch, Step, TrainResult

#: Ranks, and images that a rank takes at a time.
MAX_AT_ONCE = 1 << 24

_LIBRARIES = (
    "torch",
    "numpy",
    "pillow",
    "simplejpeg",
    "cykooz-resizer",
    "webdataset",
    "torchvision",
)

#: The images that `validate on` keeps apart, by their paths, in a run folder.
HELD_OUT = "validation.txt"

#: Parts of a record that a resumed run must share, in words.
_SAME = {
    "input": "input",
    "layers": "layers",
    "recipe": "train",
    "test": "test",
    "seed": "--seed",
    "options": "options",
}

#: Settings that earlier versions did not have, with the values that they used.
_ADDED: dict[str, dict[str, Any]] = {
    "recipe": {
        "optimiser": "sgd",
        "nesterov": False,
        "betas": [0.9, 0.999],
        "clip_gradients": None,
        "average_weights": None,
        "smooth_labels": 0.0,
        "warm_up": 0,
        "schedule": "plateau",
        "decay_at": [],
        "frozen": [],
        "freeze_batch_norm": False,
        "rates_of": [],
        "area": None,
        "crop_pad": 0,
        "randaugment": None,
        "erase": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "validate_on": None,
        "classes_balanced": False,
        "class_weights": [],
    },
    "test": {"resize": "rounded"},
}


def describe_run(
    lowered: "Lowered",
    data: "DataSet",
    statistics: "Statistics",
    *,
    seed: int,
    settings: Sequence[str],
    options: Mapping[str, Any],
    computed: Mapping[str, Any],
    started_from: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Everything that a run depends on; ``computed`` is what affects the speed alone."""
    installed = [name for name in _LIBRARIES if has_library({"pillow": "PIL"}.get(name, name))]
    versions = {name: metadata.version(name) for name in installed}
    network, name = lowered.network, lowered.spec.source.name
    return {
        "net": network.name,
        "spec": name if name.startswith("<") else str(Path(name).resolve()),
        "spec_text": lowered.spec.source.text,
        "settings": list(settings),
        "input": asdict(network.input),
        "layers": [f"{layer.name}: {layer.op.write()}" for layer in network.layers],
        "recipe": asdict(lowered.experiment.train),
        "test": asdict(lowered.experiment.test),
        "seed": seed,
        "options": dict(options),
        "computed": dict(computed),
        "started_from": list(started_from),
        "data": {
            "folder": str(data.root.resolve()),
            "classes": list(data.classes),
            "train_images": len(data.train),
            "val_images": len(data.val),
            "fingerprint": data.fingerprint,
        },
        "statistics": asdict(statistics),
        "versions": {"vggspec": __version__, "python": platform.python_version(), **versions},
    }


def describe_result(result: "TrainResult") -> dict[str, Any]:
    """The result of a run, for its record."""
    return {
        "result": {
            "best": None if result.best is None else asdict(result.best),
            "step": result.step,
            "was_stopped": result.was_stopped,
            "seconds": round(result.seconds, 3),
            "num_left_out": result.num_left_out,
            "left_out": list(result.left_out),
        }
    }


def resumed_record(
    recorded: Mapping[str, Any], ours: Mapping[str, Any], step: int
) -> dict[str, Any]:
    """The record of a resumed run: that of its start, and each time that it was resumed."""
    since = {"step": step, "computed": ours["computed"], "versions": ours["versions"]}
    before = recorded.get("resumed")
    kept = {key: recorded[key] for key in ("computed", "versions") if key in recorded}
    return {**ours, **kept, "resumed": [*(before if isinstance(before, list) else ()), since]}


def save_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Raises:
        VggspecError: the system refuses.
    """
    write_text(run / RECORD, json.dumps(record, indent=2) + "\n")


def write_held_out(run: Path, data: "DataSet") -> None:
    """Write the paths of the validation images, seen from the data's folder, a line each.

    Raises:
        VggspecError: the system refuses.
    """
    names = (os.path.relpath(data.val.name(index), data.root) for index in range(len(data.val)))
    write_text(run / HELD_OUT, "".join(f"{shown(name)}\n" for name in names))


def read_record(run: Path) -> dict[str, Any]:
    """Read ``run.json``.

    Raises:
        VggspecError: it does not exist, or is damaged.
    """
    record = record_fields(run)
    try:
        _check_record(record)
    except BadFieldError as error:
        raise damaged_record(run, error) from error
    return {key: record.raw(key) for key in record.names()}


def _check_record(record: Fields) -> None:
    """Check that every field from which a run is resumed or repeated exists and has its type.

    Raises:
        BadFieldError: it is not.
    """
    record.texts("settings")
    record.text("net")
    record.text("spec")
    record.text("spec_text", MAX_SPEC)
    record.integer("seed")
    options = record.object("options")
    if not options.is_null("precision"):
        options.choice("precision", "fp32", "tf32", "bf16")
    if not options.is_null("validate"):
        options.choice("validate", "crop", "dense")
    options.flag("compile", default=False)
    computed = record.object("computed")
    for key in ("ranks", "micro_batch"):
        if not computed.is_null(key):
            computed.integer(key, 1, MAX_AT_ONCE)
    for origin in record.objects("started_from"):
        for key in ("weights", "data_sha256"):
            origin.text(key)
    record.object("data").text("folder")
    Statistics.from_fields(record.object("statistics"))


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was started with, by names such as ``train rate``; ``-`` is what it lacks.

    Settings that its version did not have have the values that it used.
    """
    found: dict[str, Any] = {"net": record.get("net"), "layers": record.get("layers")}
    for key, word in (("input", "input"), ("recipe", "train"), ("test", "test"), ("options", "")):
        values = record.get(key)
        if isinstance(values, dict):
            for name, value in {**_ADDED.get(key, {}), **values}.items():
                found[f"{word} {name.replace('_', ' ')}".strip()] = value
    found["seed"] = record.get("seed")
    for key, name in (("data", "folder"), ("data", "train_images"), ("computed", "device")):
        part = record.get(key)
        if isinstance(part, dict):
            found[f"{key} {name.replace('_', ' ')}"] = part.get(name)
    started = record.get("started_from")
    if isinstance(started, list):
        found["start from"] = [one.get("weights") for one in started if isinstance(one, dict)]
    return found


def check_same(run: Path, recorded: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Check that a run is resumed with the values that it was started with.

    Raises:
        VggspecError: something differs; it says what.
    """
    ours = json.loads(json.dumps(ours))  # tuples are lists there
    # The end may differ: a longer run begins like a shorter one.
    recorded, ours = ({**one, "recipe": _endless(one.get("recipe"))} for one in (recorded, ours))
    differences: list[str] = []
    for key, word in _SAME.items():
        theirs = recorded.get(key)
        if isinstance(theirs, dict):
            theirs = {**_ADDED.get(key, {}), **theirs}
        if key == "recipe" and isinstance(theirs, dict):
            theirs["start_from"] = _with_source(theirs.get("start_from"))
        differences += _differences(word, theirs, ours[key])
    theirs = recorded.get("data")
    if not isinstance(theirs, dict) or theirs.get("fingerprint") != ours["data"]["fingerprint"]:
        begun = theirs.get("folder") if isinstance(theirs, dict) else None
        folder = ours["data"]["folder"]
        differences.append(
            f"images in {folder} were added, removed or changed since the run began"
            if begun == folder
            else f"the images in {folder} are not those of {begun}"
        )
    started = [[each["data_sha256"] for each in one["started_from"]] for one in (recorded, ours)]
    if started[0] != started[1]:
        differences.append("the weights that it starts from are not those of its beginning")
    if differences:
        shown = differences[:8]
        if len(differences) > len(shown):
            shown.append(f"and {len(differences) - len(shown)} more")
        raise VggspecError(report(OtherRun(differences=tuple(shown)), path=str(run)))


def _with_source(start_from: Any) -> Any:
    """The layers that a run started from; earlier versions recorded no collection."""
    if not isinstance(start_from, list):
        return start_from
    return [{"source": None, **e} if isinstance(e, dict) else e for e in start_from]


_END = ("iterations", "epochs")


def _endless(recipe: Any) -> Any:
    if not isinstance(recipe, dict):
        return recipe
    end = {"no_better"} if recipe.get("schedule") == "cosine" else {"no_better", *_END}
    return {key: value for key, value in recipe.items() if key not in end}


def _differences(word: str, theirs: Any, ours: Any) -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [*ours, *(key for key in theirs if key not in ours)]
        return [
            line
            for key in keys
            for line in _differences(f"{word} {key}", theirs.get(key), ours.get(key))
        ]
    if word == "layers" and isinstance(theirs, list):
        gone = [f"{line} is in the run, not in the spec" for line in theirs if line not in ours]
        new = [f"{line} is in the spec, not in the run" for line in ours if line not in theirs]
        if gone or new or theirs == ours:
            return gone + new
    if theirs == ours:
        return []
    return [f"{word}: {json.dumps(theirs)} in the run, {json.dumps(ours)} here"]


class Log:
    """``log.jsonl``: a line for each report of a run, on disk as soon as it is written.

    A resumed run truncates what came after its checkpoint.

    Raises:
        VggspecError: the system refuses.
    """

    def __init__(self, run: Path, length: int) -> None:
        self._path = run / LOG
        with refusals(self._path):
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (see __exit__)
            if self._file.tell() > length:
                os.truncate(self._path, length)
                self._file.seek(0, os.SEEK_END)

    @property
    def bytes(self) -> int:
        """How long it is."""
        return self._file.tell()

    def step(self, now: "Step") -> None:
        """Write a line.

        Raises:
            VggspecError: the system refuses.
        """
        self._add(now)

    def epoch(self, now: "Epoch") -> None:
        """Write a line.

        Raises:
            VggspecError: the system refuses.
        """
        self._add(now)

    def _add(self, now: "Step | Epoch") -> None:
        with refusals(self._path):
            self._file.write(json.dumps(asdict(now)).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
