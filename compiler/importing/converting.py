"""Checkpoints of other tools as weights files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isclose
from typing import Literal, cast

from vggspec.base.arguments import StrPath, one_or_several
from vggspec.base.catalogue import artefacts, importing
from vggspec.base.catalogue.importing import OtherClassOrder
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.fields import short
from vggspec.base.files import is_same_file, leads_to, replacing_file, restored_on_failure
from vggspec.base.regular_files import read_file
from vggspec.base.render import shown
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count, either, reason
from vggspec.compiler.importing.checkpoint import Checkpoint, read_checkpoint
from vggspec.compiler.importing.closest import closest
from vggspec.compiler.importing.comparing import Compared, compare
from vggspec.compiler.importing.layouts import Layout
from vggspec.compiler.importing.matching import Hints, Matched, Part, match
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
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.results import in_words, result_of
from vggspec.compiler.weights import Metadata, changed_part, describe, expecting, save
from vggspec.data.imagenet import BACKGROUND, CLASSES, imagenet_classes, other_order
from vggspec.lang.packaged import SUFFIX

MAX_LABELS_BYTES = 16 << 20
NO_LABELS = "none"


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

    only: Part | None = None
    """The part of the net to import: ``features`` are the layers before the first FC layer. The
    weights file contains these alone."""

    labels: StrPath | Literal["none"] | None = None
    """A file with the names of the classes, one a line; ``none`` leaves the classes without names.
    None takes those of the checkpoint, or ImageNet's for weights of a collection that has its 1000
    classes."""

    input: str | None = None
    """Of a spec that is written: its input as after the word ``input``, such as ``gray(mean 33.3)``
    or ``224x224 RGB(mean 127.5, std 127.5)``. The size may be left out where the model says it.
    None takes the size of the model and the numbers of ``source``; or else, with a note, those that
    are likely."""

    check: bool = False
    """Run the net of the weights' own library, torchvision or timm, beside ours, and refuse weights
    whose scores differ."""


@short_repr
@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint as a weights file."""

    path: str
    spec: str
    """The spec, or the one that was found or written."""

    matched: Matched
    """Which tensor each layer took."""

    expected: Expected
    """How the input is normalised, and how that is known."""

    labels: tuple[str, ...] | None
    """The names of the classes."""

    compared: Compared | None
    """The scores beside those of the library's own net, if ``check`` asked for it; or beside those
    of the ONNX model that a spec was written from."""

    is_epsilon_known: bool
    """Whether the file says what its batch normalisations add to their variance: as in the spec."""


def import_weights(
    spec: StrPath | None,
    checkpoint: StrPath,
    *,
    out: StrPath | None = None,
    write_spec: StrPath | None = None,
    options: ImportOptions | None = None,
    watch: Watcher = SILENT,
) -> Imported:
    """Convert a checkpoint of another tool to a weights file of a spec.

    Reads files of PyTorch, TorchScript, safetensors, npz, ONNX, Keras, Caffe and MatConvNet. No
    code of the checkpoint is run. A ``spec`` of None is the packaged one whose layers have its
    shapes. ``out`` is ``<net>.safetensors`` in the working folder by default, or
    ``<net>-features.safetensors`` for the features alone; a file there is replaced, with a note to
    ``watch``. ``watch`` also receives notes about decisions that the caller may want to change.

    With ``write_spec`` a spec is written there, which ends in ``.vgg``: that of the net in an ONNX
    model. Its net is run beside the model in ONNX Runtime, on images of noise; see
    ``Imported.compared``. Both files are written, or neither is.

    Raises:
        VggspecError: the spec has mistakes, or the checkpoint cannot be read, belongs to another
            net, or leaves open which tensor belongs to which layer; or no packaged spec fits it, or
            several do; or a check found other scores, or nothing to compare with; or a spec cannot
            say what a model computes.
        ArgumentError: an option does not fit the net, or ``out`` is a file that is read.
        MissingLibraryError: a check needs a library that is not installed.
    """
    options = options or ImportOptions()
    source = os.fspath(checkpoint)
    if write_spec is not None:
        return _with_spec(spec, source, out, os.fspath(write_spec), options, watch)
    if options.input is not None:
        raise ArgumentError("--input is the input of a spec that --write-spec writes")
    hints = Hints(
        layout=options.layout,
        pairs=dict(options.pairs),
        ignored=tuple(one_or_several("ignored", options.ignored)),
        only=options.only,
    )
    # A spec that is named is checked before a large file is read.
    lowered = None if spec is None else load_network(spec)
    if lowered is not None:
        path = _check(os.fspath(spec or ""), lowered, out, source, options)
    read = read_checkpoint(source, options.key)
    for note in _notes(read, source, options):
        watch.note(note)
    if lowered is None:
        spec, matched = closest(read, hints)
        lowered = load_network(spec)
        path = _check(spec, lowered, out, source, options)
        watch.note(f"the spec is {spec}: of those that come with vggspec it has these layers")
    else:
        matched = match(lowered.network, read, hints)
    _check_epsilons(matched, read)
    is_replaced = _exists(path)
    ready = _ready(lowered, matched, read, options)
    compared = None
    if options.check:
        expected = ready.expected
        compared = compare(lowered.network, expected.input, matched, read, expected.source)
    save(path, matched.arrays, ready.metadata)
    for note in ready.notes:
        watch.note(note)
    if is_replaced:
        watch.note(f"{shown(path)} existed and was replaced")
    return _imported(path, os.fspath(spec or ""), matched, read, ready, compared)


def _with_spec(
    spec: StrPath | None,
    source: str,
    out: StrPath | None,
    written: str,
    options: ImportOptions,
    watch: Watcher,
) -> Imported:
    """See ``import_weights``: with the spec of an ONNX model, which is written."""
    from vggspec.compiler.drafting.draft import draft
    from vggspec.compiler.drafting.proof import prove

    _check_written(spec, source, written, options)
    read = read_checkpoint(source)
    drafted = draft(read, written, options.input, options.source)
    lowered, matched = drafted.lowered, drafted.matched
    options = replace(options, source=cast("Name | None", drafted.source))
    path = _check(written, lowered, out, source, options)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ArgumentError(f"`{shown(path)}` is no regular file; name one with -o")
    ready = _ready(lowered, matched, read, options)
    existed = [target for target in (path, written) if _exists(target)]
    with restored_on_failure(path), replacing_file(written) as file:
        file.write(lowered.spec.source.text.encode())
        save(path, matched.arrays, ready.metadata)
        compared = prove(source, drafted.graph, lowered.network, path)
    for note in (*read.known.notes, *drafted.notes, *ready.notes):
        watch.note(note)
    if isinstance(compared, str):
        watch.note(f"not compared: ONNX Runtime does not run the model: {compared}")
    for target in existed:
        watch.note(f"{shown(target)} existed and was replaced")
    found = None if isinstance(compared, str) else compared
    return _imported(path, written, matched, read, ready, found)


def _check_written(spec: StrPath | None, source: str, written: str, options: ImportOptions) -> None:
    """Refuse what says of a spec how tensors are matched, or contradicts that it is written."""
    if spec is not None:
        raise ArgumentError("--write-spec writes a spec: name the ONNX model alone")
    if not written.endswith(SUFFIX):
        message = f"`{shown(written)}` is no name of a spec; it must end in `{SUFFIX}`."
        raise ArgumentError(message)
    if is_same_file(written, source):
        raise ArgumentError(f"`{shown(written)}` is a file that is read; name another one.")
    given = {
        "--map": options.pairs, "--ignore": options.ignored, "--key": options.key,
        "--layout": options.layout, "--only": options.only,
    }  # fmt: skip
    for flag, value in given.items():
        if value:
            raise ArgumentError(f"{flag} is for a spec that exists, and --write-spec writes one")
    if options.bgr:
        raise ArgumentError("--bgr is for a spec that exists: write `--input BGR(…)`")
    if options.check:
        raise ArgumentError("--write-spec compares with ONNX Runtime: leave out --check")


@dataclass(frozen=True, slots=True)
class _Ready:
    """What goes into a weights file beside the numbers."""

    expected: Expected
    labels: tuple[str, ...] | None
    metadata: Metadata
    notes: Sequence[str]


def _ready(lowered: Lowered, matched: Matched, read: Checkpoint, options: ImportOptions) -> _Ready:
    """The input that weights expect, and their labels; the first layer is turned to the order of
    the spec's channels.
    """
    network = lowered.network
    given = _given_labels(lowered, options)
    expected = expectation(network.input, matched, read, options.source, is_bgr=options.bgr)
    if expected.is_turned:
        turn_first_layer(network, matched.arrays, read.path)
    names, notes = _labels(lowered, read, given, expected.source, options)
    described = describe(network, labels=names)
    metadata = expecting(described, expected.input, expected.source)
    return _Ready(expected, names, metadata, notes)


def _imported(
    path: str,
    spec: str,
    matched: Matched,
    read: Checkpoint,
    ready: _Ready,
    compared: Compared | None,
) -> Imported:
    return Imported(
        path=path,
        spec=spec,
        matched=matched,
        expected=ready.expected,
        labels=ready.labels,
        compared=compared,
        is_epsilon_known=bool(read.known.epsilons),
    )


def _check(
    spec: str, lowered: Lowered, out: StrPath | None, checkpoint: str, options: ImportOptions
) -> str:
    """The file to write, after a look at what is asked for."""
    network = lowered.network
    part = f"-{options.only}" if options.only else ""
    path = f"{network.name}{part}.safetensors" if out is None else os.fspath(out)
    labels = None if options.labels in (None, NO_LABELS) else os.fspath(options.labels)
    for read in (lowered.spec.source.name, checkpoint, labels):
        if read is not None and is_same_file(path, read):
            message = f"`{shown(path)}` is a file that is read; name another one."
            raise ArgumentError(message)
    if options.only and not any(isinstance(layer.op, Linear) for layer in network.layers):
        raise ArgumentError(f"{spec} has no FC layers, and so is features alone: leave out --only")
    if options.only and labels is not None:
        raise ArgumentError("labels name classes, and --only features gives none")
    if options.only and options.check:
        raise ArgumentError("--check compares class scores, and --only features gives none")
    color = network.input.color
    if color == "gray" and (options.bgr or options.source not in (None, "spec")):
        message = f"--bgr and --from are for nets that take colours; {spec} is gray"
        raise ArgumentError(message)
    if options.bgr and color == "BGR":
        message = f"--bgr turns a first layer to RGB; {spec} is BGR"
        raise ArgumentError(message)
    return path


def _check_epsilons(matched: Matched, read: Checkpoint) -> None:
    for pair in matched.pairs:
        op, found = pair.slot.layer.op, read.known.epsilons.get(pair.module.name)
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


def _notes(read: Checkpoint, path: str, options: ImportOptions) -> list[str]:
    """The decisions that were made while a checkpoint was read."""
    found = list(read.known.notes)
    if read.known.source == "caffe" and options.source not in (None, "caffe") and not options.bgr:
        found.append("nets of Caffe take BGR as a rule; `--bgr` turns the first layer")
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


def _given_labels(lowered: Lowered, options: ImportOptions) -> tuple[str, ...] | None:
    """The labels of the file that the caller names."""
    if options.labels is None or options.labels == NO_LABELS:
        return None
    network = lowered.network
    if result_of(network) == "activations":
        gives = in_words(network.outputs)
        raise ArgumentError(f"labels name classes, and the net gives {gives}")
    return _read_labels(os.fspath(options.labels), network.num_classes)


def _labels(
    lowered: Lowered,
    read: Checkpoint,
    given: tuple[str, ...] | None,
    source: str,
    options: ImportOptions,
) -> tuple[tuple[str, ...] | None, list[str]]:
    """The names of the classes, and what to say of them: those given, those of the checkpoint, or
    ImageNet's for weights of a collection.

    Raises:
        VggspecError: those given are ImageNet's in another order than the weights'.
    """
    network = lowered.network
    has_classes = result_of(network) not in ("activations", "boxes") and options.only is None
    if not has_classes or options.labels == NO_LABELS:
        return None, []
    if given is not None:
        order = other_order(given)
        if order is not None and source != "spec":
            what = OtherClassOrder(order=order, source=source)
            raise VggspecError(report(what, path=os.fspath(options.labels or "")))
        say = f"the labels are ImageNet's in {order}; published weights are in the usual one"
        return given, [say] if order is not None else []
    own = own_metadata(read).labels or read.known.labels
    if own is not None:
        if len(own) == network.num_classes:
            return own, []
        say = f"left out the checkpoint's {len(own)} labels: the net has {network.num_classes}"
        return None, [f"{say} classes"]
    names = imagenet_classes()
    has_background = source == "tf-slim" and network.num_classes == CLASSES + 1
    if source == "spec" or not (has_background or network.num_classes == CLASSES):
        return None, []
    whose = f"as {source}'s weights have them; `--labels none` leaves them out"
    if has_background:
        return (BACKGROUND, *names), [f"labels: a background class and ImageNet's 1000, {whose}"]
    return names, [f"labels: ImageNet's 1000 classes in the usual order, {whose}"]


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
