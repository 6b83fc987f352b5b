"""Checkpoints of other tools as weights files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import Literal

from vggspec.base.catalogue import artefacts, importing
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.fields import short
from vggspec.base.files import is_same_file, leads_to
from vggspec.base.regular_files import read_file
from vggspec.base.render import shown
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count, either, reason
from vggspec.compiler.importing.checkpoint import Checkpoint, read_checkpoint
from vggspec.compiler.importing.layouts import Layout
from vggspec.compiler.importing.matching import Hints, Matched, match
from vggspec.compiler.importing.sources import (
    Expected,
    Name,
    expectation,
    own_metadata,
    turn_first_layer,
)
from vggspec.compiler.importing.tables import is_average
from vggspec.compiler.lower import Lowered, load_network
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.results import in_words, result_of
from vggspec.compiler.weights import changed_part, describe, expecting, save

Path = str | os.PathLike[str]

MAX_LABELS_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the caller knows about a checkpoint; everything is optional."""

    source: Name | Literal["spec"] | None = None
    """The collection that it belongs to, which decides how images were normalised; ``spec`` takes
    the numbers of the spec. None infers it from the names of the layers."""

    bgr: bool = False
    """Whether the first layer takes BGR."""

    layout: Layout | None = None
    """The axes of the kernels. None infers them from the shapes."""

    pairs: Mapping[str, str] = field(default_factory=dict)
    """Layers of the spec, each with the layer of the checkpoint whose weights it takes."""

    ignored: Sequence[str] = ()
    """Layers, or groups of layers, of the checkpoint that are not part of the net."""

    key: str | None = None
    """The table of the checkpoint to take, if it contains several, such as ``model_ema``."""

    labels: Path | None = None
    """A file with the names of the classes, one a line."""


@short_repr
@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint as a weights file."""

    path: str
    matched: Matched
    """Which tensor each layer took."""

    expected: Expected
    """How the input is normalised, and how that is known."""

    is_epsilon_known: bool
    """Whether the file says what its batch normalisations add to their variance: as in the spec."""


def import_weights(
    spec: Path,
    checkpoint: Path,
    *,
    out: Path | None = None,
    options: ImportOptions | None = None,
    watch: Watcher = SILENT,
) -> Imported:
    """Convert a checkpoint of PyTorch or Keras, safetensors or npz to a weights file of a spec.

    No code of the checkpoint is run. ``out`` is ``<net>.safetensors`` in the working folder by
    default; a file there is replaced, with a note to ``watch``. ``watch`` also receives notes about
    decisions that the caller may want to change.

    Raises:
        VggspecError: the spec has mistakes, or the checkpoint cannot be read, belongs to another
            net, or leaves open which tensor belongs to which layer.
        ArgumentError: an option does not fit the net, or ``out`` is a file that is read.
    """
    options = options or ImportOptions()
    lowered = load_network(spec)
    network = lowered.network
    source = os.fspath(checkpoint)
    path = f"{network.name}.safetensors" if out is None else os.fspath(out)
    _check(os.fspath(spec), lowered, path, source, options)
    is_replaced = _exists(path)
    names = None
    if options.labels is not None:
        if result_of(network) == "activations":
            gives = in_words(network.outputs)
            raise ArgumentError(f"labels name classes, and the net gives {gives}")
        names = _read_labels(os.fspath(options.labels), network.num_classes)
    read = read_checkpoint(source, options.key)
    for note in _notes(read, source):
        watch.note(note)
    hints = Hints(layout=options.layout, pairs=dict(options.pairs), ignored=tuple(options.ignored))
    matched = match(network, read, hints)
    _check_epsilons(matched, read)
    expected = expectation(network.input, matched, read, options.source, is_bgr=options.bgr)
    if expected.is_turned:
        turn_first_layer(network, matched.arrays, source)
    if names is None:
        own = own_metadata(read).labels
        is_classed = result_of(network) != "activations"
        fits = own is not None and is_classed and len(own) == network.num_classes
        names = own if fits else None
    described = describe(network, labels=names)
    save(path, matched.arrays, expecting(described, expected.input, expected.source))
    if is_replaced:
        watch.note(f"{shown(path)} existed and was replaced")
    return Imported(path, matched, expected, is_epsilon_known=bool(read.epsilons))


def _check(spec: str, lowered: Lowered, path: str, checkpoint: str, options: ImportOptions) -> None:
    labels = None if options.labels is None else os.fspath(options.labels)
    for read in (lowered.spec.source.name, checkpoint, labels):
        if read is not None and is_same_file(path, read):
            message = f"`{shown(path)}` is a file that is read; name another one."
            raise ArgumentError(message)
    color = lowered.network.input.color
    if color == "gray" and (options.bgr or options.source not in (None, "spec")):
        message = f"--bgr and --from are for nets that take colours; {spec} is gray"
        raise ArgumentError(message)
    if options.bgr and color == "BGR":
        message = f"--bgr turns a first layer to RGB; {spec} is BGR"
        raise ArgumentError(message)


def _check_epsilons(matched: Matched, read: Checkpoint) -> None:
    for pair in matched.pairs:
        op, found = pair.slot.layer.op, read.epsilons.get(pair.module.name)
        if isinstance(op, BatchNorm) and found is not None and not isclose(op.eps, found):
            what = importing.OtherEpsilon(
                layer=pair.slot.layer.name, eps=op.eps, theirs=pair.module.title, found=found
            )
            raise VggspecError(report(what, path=read.path))


def _exists(path: str) -> bool:
    """Whether a file with content is at the path: not a stream, such as ``/dev/stdout``."""
    if not os.path.isfile(path) or isinstance(leads_to(path), int):
        return False
    return os.path.getsize(path) > 0


def _notes(read: Checkpoint, path: str) -> list[str]:
    """The decisions that were made while a checkpoint was read."""
    found = list(read.notes)
    averages = [name for name in read.others if is_average(name)]
    taken = f"the table `{_shown(read.key)}`" if read.key else "the outermost table"
    if averages and not is_average(read.key or ""):
        more = f"`--key {_shown(averages[0])}` takes that one"
        found.append(f"took {taken}, not the moving average; {more}")
    elif read.others:
        keys = either([f"`--key {_shown(name)}`" for name in read.others[:6]])
        found.append(f"took {taken}; another by {keys}")
    if read.skipped:
        names = ", ".join(f"`{_shown(name)}`" for name in read.skipped[:4])
        tensors = count(len(read.skipped), "tensor")
        end = ", …" if len(read.skipped) > 4 else ""
        found.append(f"left out {tensors} without floating point numbers: {names}{end}")
    changed = changed_part(path)
    if changed is not None:
        parts = "numbers were" if changed == "numbers" else "header was"
        found.append(
            f"the {parts} changed after the file was written: its SHA-256 is not the one that the"
            " file states; it is imported all the same"
        )
    return found


def _shown(name: str) -> str:
    return shown(short(name))


def _read_labels(path: str, classes: int) -> tuple[str, ...]:
    try:
        labels = tuple(read_file(path, MAX_LABELS_BYTES).decode().splitlines())
    except (OSError, ValueError) as error:
        what = artefacts.NoSuchFile(kind="file of labels", reason=reason(error))
        raise VggspecError(report(what, path=path)) from error
    if len(labels) != classes:
        what_bad = artefacts.UnknownCheckpoint(
            reason=f"there are {len(labels)} labels for {classes} classes"
        )
        raise VggspecError(report(what_bad, path=path))
    return labels
