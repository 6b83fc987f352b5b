"""The spec of a net from an ONNX model."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vggspec.base.catalogue.onnx_models import NoGraph, NotOneClassifier, NotTheModel
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.fields import short
from vggspec.base.render import shown
from vggspec.base.source import Source
from vggspec.base.wording import count
from vggspec.compiler.drafting import structure, text
from vggspec.compiler.drafting.nodes import Graph, read_graph
from vggspec.compiler.expand import MAX_LAYERS
from vggspec.compiler.formatting import format_text
from vggspec.compiler.importing import onnx_files
from vggspec.compiler.importing.checkpoint import Checkpoint, refusals
from vggspec.compiler.importing.layouts import slots_of
from vggspec.compiler.importing.matching import Hints, Matched, match
from vggspec.compiler.importing.sources import SOURCES, claim, in_color
from vggspec.compiler.input_contract import is_said, line
from vggspec.compiler.ir import ImageInput
from vggspec.compiler.lower import Lowered, lower
from vggspec.compiler.tensor import TensorType
from vggspec.lang.parser import parse

_SIZE = re.compile(r"\s*\(?\s*(\d{1,9})\s*[x×]\s*(\d{1,9})")

_KINDS = {"keras": "a file of Keras", "caffe": "a file of Caffe", "matconvnet": "a `.mat` file"}


@dataclass(frozen=True, slots=True)
class Drafted:
    """A spec that was written from a model, and the model's weights as its parameters."""

    lowered: Lowered
    """Its source is the text to write."""

    graph: Graph
    matched: Matched
    source: str | None
    """The collection whose normalisation the text has; ``spec`` for that of the caller."""

    notes: tuple[str, ...]
    """What was guessed or left out."""


def draft(read: Checkpoint, path: str, given: str | None, named: str | None) -> Drafted:
    """The spec, to be written at ``path``, of the model that was read.

    ``given`` is the input as after the word ``input`` of a spec, with a size or without; ``named``
    is the collection whose images are normalised as the model's.

    Raises:
        VggspecError: it is no ONNX model, or its net cannot be expressed.
        ArgumentError: ``given`` contradicts the model, or ``named``.
    """
    if read.kind != "onnx":
        kind = _KINDS.get(read.kind, f"a file of weights ({read.kind})")
        raise VggspecError(report(NoGraph(kind=kind), path=read.path))
    size = None if given is None else _SIZE.match(given)
    with refusals(read.path):
        model = onnx_files.load(read.path)
        reader = onnx_files.Reader(model, read.path)
        table = reader.tensors()
        sides = None if size is None else (int(size[1]), int(size[2]))
        graph = read_graph(model, reader, table, sides)
    if len(graph.layers) > MAX_LAYERS:
        why = f"it has {len(graph.layers)} layers, and a spec at most {MAX_LAYERS}"
        raise _refused(read, why, "write a spec of a part of it")
    first = _first_line(graph, given, has_size=size is not None)
    image = _image(graph, first)
    if named == "spec" and not is_said(image):
        raise ArgumentError("--from spec takes the numbers of the spec: write them in --input")
    if named in SOURCES and is_said(image):
        message = "--from and the numbers in --input both say how images are normalised"
        raise ArgumentError(message)
    entering = TensorType((graph.size.channels, graph.size.height, graph.size.width))
    found = text.write(structure.lines(graph.layers), graph.layers, entering)
    lowered = _lowered(read, path, _text(first, [], found.lines, ()))
    slots = slots_of(lowered.network)
    if len(slots) != len(found.modules):
        differ = f"it has {count(len(slots), 'layer')} with weights, the model {len(found.modules)}"
        what = NotTheModel(differ=differ, model=shown(read.path))
        raise VggspecError(report(what, path=read.path))
    pairs = {slot.layer.name: module for slot, module in zip(slots, found.modules, strict=True)}
    matched = match(lowered.network, read, Hints(pairs=pairs))
    if not is_said(image):
        image, source, say = _normalised(image, lowered, matched, read, named)
        first = line(image)
    else:
        source, say = "spec", None
    network = lowered.network
    claims = tuple(
        count(number, noun)
        for number, noun in (
            (len(network.weight_layers), "weight layer"),
            (network.parameters, "parameter"),
        )
        if number
    )
    comments = [f"Written by vggspec import from {shown(short(os.path.basename(read.path)))}."]
    notes = list(graph.notes)
    if say is not None:
        comments.append(f"Input: {say}.")
        notes.append(f"input: {say}; --input or --from says otherwise")
    lowered = _lowered(read, path, _text(first, comments, found.lines, claims))
    return Drafted(lowered, graph, matched, source, tuple(notes))


def _first_line(graph: Graph, given: str | None, *, has_size: bool) -> str:
    """The line ``input``, as the caller has it, with what the model says."""
    size = graph.size
    usual = f"{size.height}x{size.width}"
    colour = "gray" if size.channels == 1 else "RGB"
    if given is None:
        return f"input {usual} {colour}"
    said = " ".join(given.split())
    if not re.search(r"[A-Za-z]{3}", said.lstrip("(").partition("(")[0]):
        at = len(_sized(said)) if has_size else 0
        said = f"{said[:at]} {colour}{said[at:]}"
    return f"input {said}" if has_size else f"input {usual} {said.lstrip()}"


def _sized(said: str) -> str:
    """The size at the beginning of an input."""
    found = _SIZE.match(said)
    return "" if found is None else found[0]


def _image(graph: Graph, first: str) -> ImageInput:
    """The input that a line says.

    Raises:
        VggspecError: it is malformed.
        ArgumentError: it has another number of channels than the model's.
    """
    source = Source("--input", f"{first}\ngap FC-1\n")
    image = lower(parse(source).specs[0]).network.input
    if image.channels != graph.size.channels:
        message = f"--input says {image.color}, and the model takes {graph.size.channels} channels"
        raise ArgumentError(message)
    return image


def _normalised(
    image: ImageInput, lowered: Lowered, matched: Matched, read: Checkpoint, named: str | None
) -> tuple[ImageInput, str | None, str | None]:
    """The complete input, the collection that it is of, and how it was inferred or guessed."""
    found = claim(lowered.network.input, matched, read, named)
    if found is not None:
        wanted, source, by = found
        inferred = None if by is None else f"as {source} normalises it, inferred from {by}"
        return wanted, named, inferred
    of_colours = SOURCES["torchvision"].input(image) if image.channels == 3 else None
    if of_colours is not None:
        guess, whose = in_color(of_colours, image.color), "torchvision's mean and std"
    else:
        guess, whose = replace(image, mean=(0.0,), scale=1 / 255), "from 0 to 1"
    return guess, "spec", f"{whose}, which is a guess, as the model does not say it"


def _text(
    first: str, comments: Sequence[str], lines: tuple[str, ...], claims: tuple[str, ...]
) -> str:
    said = [f"# {comment}" for comment in comments]
    return "\n".join([*said, first, "", *lines, "", *claims, ""])


def _lowered(read: Checkpoint, path: str, written: str) -> Lowered:
    try:
        return lower(parse(Source(path, format_text(written))).specs[0])
    except VggspecError as error:
        why = f"the language refuses its layers: {error.reports[0].what.title()}"
        raise _refused(read, why, "write a spec by hand for a net that is near it") from error


def _refused(read: Checkpoint, why: str, way: str) -> VggspecError:
    return VggspecError(report(NotOneClassifier(why=why, way=way), path=read.path))
