"""``vggspec inspect``: what a bundle holds, takes and gives. Nothing of it is loaded to run."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.bundle.manifest import FORMAT, SCALES
from vggspec.cli.table import aligned, memory
from vggspec.runtime.compatibility import capabilities, profiles_of
from vggspec.runtime.tensorrt.seam import FLAVOURS

if TYPE_CHECKING:
    from vggspec.bundle.engine import Engine
    from vggspec.bundle.manifest import Bundle, InputContract, Manifest, OutputContract
    from vggspec.bundle.profile import Profile, Shape

DIGEST_DIGITS = 12
LABELS_SHOWN = 3
LARGEST_SHAPE_BYTES = 1024  # of a constant in a graph: what is larger is no shape
LONGEST_NAME = 24  # of a layer in the table: engines fuse layers and join their names
_PRECISIONS = {"float": "fp32", "half": "fp16", "float16": "fp16", "bfloat16": "bf16"}
SHAPE_TYPES = ("int32", "int64")  # of layers that compute shapes and nothing of the image
LAYER_HEADINGS = ("layer", "op", "precision", "output", "reads")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A layer as the engine's builder or the graph has it."""

    name: str
    op: str
    precision: str
    output: tuple[int, ...]
    """Its shape, -1 where an axis is open."""

    reads: tuple[str, ...]


@click.command(
    "inspect",
    epilog="""\b
Examples:
  vggspec inspect D
  vggspec inspect D --json
  vggspec inspect D --spec > D.vgg""",
)
@click.argument("bundle")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--spec", "only_spec", is_flag=True, help="Print the spec it was compiled from.")
def command(bundle: str, *, as_json: bool, only_spec: bool) -> None:
    """Print what a bundle takes and gives, its profiles, files, engine and layers.

    All of it stands in the manifest and the files beside it; an engine is never loaded.
    """
    from vggspec.bundle.manifest import load_bundle, open_bundle

    if as_json and only_spec:
        raise click.UsageError("`--spec` prints a spec, `--json` all the rest: give one of them.")
    if only_spec:
        _print_specs(open_bundle(bundle).manifest)
        return
    manifest, (layers_from, layers) = load_bundle(bundle, lambda it: (it.manifest, layers_of(it)))
    if as_json:
        click.echo(json.dumps(_as_dict(manifest, layers_from, layers), indent=2))
    else:
        _print(manifest, layers_from, layers)


def _print_specs(manifest: "Manifest") -> None:
    """The spec, or those of all nets in a graph that holds the test protocol."""
    texts = [member.spec_text for member in manifest.members] or [manifest.spec_text]
    for text in dict.fromkeys(texts):
        click.echo(text, nl=not text.endswith("\n"))


# Layers.


def layers_of(bundle: "Bundle") -> tuple[str, tuple[LayerFacts, ...]]:
    """Where the layers were read, ``network``, ``engine`` or ``graph``, and the layers.

    Raises:
        VggspecError: the list of layers is damaged.
    """
    from vggspec.bundle.manifest import LAYERS

    if (bundle.path / LAYERS).is_file() and any(e.path == LAYERS for e in bundle.manifest.files):
        return _recorded(bundle, LAYERS)
    if bundle.model.suffix == ".onnx":
        return "graph", _of_graph(bundle)
    return "network", ()


def _recorded(bundle: "Bundle", name: str) -> tuple[str, tuple[LayerFacts, ...]]:
    from vggspec.base.catalogue.artefacts import ChangedFile
    from vggspec.base.fields import BadFieldError, parse_object
    from vggspec.base.opening import read_file
    from vggspec.base.wording import reason
    from vggspec.bundle.manifest import MAX_MANIFEST_BYTES

    try:
        data = parse_object(read_file(bundle.path / name, MAX_MANIFEST_BYTES))
        layers = tuple(
            LayerFacts(
                name=each.text("name"),
                op=each.text("op"),
                precision=_PRECISIONS.get(each.text("precision"), each.text("precision")),
                output=each.integers("output", -1),
                reads=each.texts("reads"),
            )
            for each in data.objects("layers")
        )
        return data.text("from"), layers
    except OSError as error:
        what = ChangedFile(file=name, reason=f"cannot be read: {reason(error)}")
        raise VggspecError(report(what, path=str(bundle.path))) from error
    except BadFieldError as error:
        what = ChangedFile(file=name, reason=f"is no list of layers: {error}")
        raise VggspecError(report(what, path=str(bundle.path))) from error


def _of_graph(bundle: "Bundle") -> tuple[LayerFacts, ...]:
    """The nodes of an ONNX graph that compute on the image; weights are not read."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx.shape_inference import InferenceError, infer_shapes

    from vggspec.base.catalogue.artefacts import EngineFailed

    try:
        model = onnx.load(bundle.model, load_external_data=False)
        graph = model.graph
        constant = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            if len(tensor.raw_data) > LARGEST_SHAPE_BYTES:
                tensor.ClearField("raw_data")  # embedded weights are no help with shapes
        graph = infer_shapes(model).graph
    except (DecodeError, InferenceError, ValueError, OSError) as error:
        what = EngineFailed(reason=f"it is no ONNX graph ({error})")
        raise VggspecError(report(what, path=str(bundle.model))) from error
    return tuple(_nodes(graph, constant))


def _nodes(graph: Any, constant: set[str]) -> Iterator[LayerFacts]:
    """Those of a graph that compute on its inputs, and those of loops in it after the loop."""
    types = {
        value.name: value.type.tensor_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if all(name in constant for name in inputs):
            constant.update(node.output)
            continue
        kind = types.get(node.output[0])
        yield LayerFacts(
            name=node.name or node.output[0],
            op=node.op_type,
            precision=_precision(kind.elem_type) if kind is not None else "",
            output=_axes(kind) if kind is not None else (),
            reads=tuple(name for name in inputs if name not in constant),
        )
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g, constant)


def _precision(elem_type: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    return _PRECISIONS.get(name, name)


def _axes(kind: Any) -> tuple[int, ...]:
    return tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim)


# In words.


def _print(manifest: "Manifest", layers_from: str, layers: Sequence[LayerFacts]) -> None:
    from vggspec.cli.terminal import use_color

    bold = use_color(sys.stdout)

    def heading(text: str) -> None:
        click.echo(click.style(text, bold=True) if bold else text)

    heading(f"net {shown(manifest.net)}, {_kind(manifest)}")
    click.echo()
    for line in aligned(list(_facts(manifest))):
        click.echo(line)
    for title, rows, right in (
        ("nets", list(_member_rows(manifest)), ()),
        ("profiles", list(_profile_rows(manifest)), ()),
        ("engine", list(_engine_rows(manifest.engine)) if manifest.engine else [], ()),
        ("files", list(_file_rows(manifest)), (1,)),
        (f"layers, from the {shown(layers_from)}", list(_layer_rows(layers)), ()),
    ):
        if rows:
            click.echo()
            heading(title)
            for line in aligned(rows, right=right):
                click.echo(f"  {line}")
    num_hidden = sum(1 for layer in layers if layer.precision in SHAPE_TYPES)
    if num_hidden:
        click.echo(f"  and {count(num_hidden, 'layer')} of shapes")


def _kind(manifest: "Manifest") -> str:
    form = "dense" if manifest.form == "dense" else "for crops of one size"
    if manifest.engine is None:
        return f"{form}: a graph for ONNX Runtime in {manifest.precision}"
    title = FLAVOURS[manifest.engine.flavour].title
    return f"{form}: an engine of {title} in {manifest.precision}"


def _facts(manifest: "Manifest") -> Iterator[tuple[str, str]]:
    image = manifest.input
    yield "input", f"{shown(image.name)}: {_tensor(image)}"
    yield "", _pixels(image)
    for i, output in enumerate(manifest.outputs):
        yield "" if i else "output", _output(output, is_batch=not manifest.members)
    if manifest.layer is not None:
        yield "layer", shown(manifest.layer)
    if manifest.pool is not None:
        yield "pooling", f"rounded {'up' if manifest.pool == 'ceil' else 'down'}"
    rows, columns = manifest.window
    yield "window", f"{rows} × {columns} pixels, {_pair(manifest.stride)} from one to the next"
    yield "test", _protocol(manifest)
    yield "precision", _precision_in_words(manifest)
    yield "classes", _labels(manifest)
    tools = (f"{shown(name)} {shown(version)}" for name, version in manifest.tools.items())
    yield "made by", ", ".join(tools)
    yield from _servers(manifest)


def _servers(manifest: "Manifest") -> Iterator[tuple[str, str]]:
    """Which servers the bundle was configured for, and why not."""
    from vggspec.compiler.bundles import deepstream, triton

    for title, server in (("Triton", triton), ("DeepStream", deepstream)):
        reason = server.why_not(manifest)
        yield title, server.CONFIG if reason is None else f"no: {reason}"


def _tensor(image: "InputContract") -> str:
    channels = len(image.mean)
    height, width = ("H", "W") if image.is_dynamic else map(str, image.size)
    if image.contract == "picture":
        return f"uint8 H × W × {channels}; {SCALES}: int64 K"
    if image.contract == "raw":
        shape = f"uint8 N × {height} × {width} × {channels}"
    else:
        shape = f"float32 N × {channels} × {height} × {width}"
    least = f", from {image.size[0]} × {image.size[1]} on" if image.is_dynamic else ""
    return f"{shape}{least}"


def _pixels(image: "InputContract") -> str:
    """How pixels become numbers."""
    from vggspec.compiler.input_contract import formula

    if image.contract == "picture":
        given = "gray" if image.color == "gray" else "RGB"
        least = f"{image.size[0]} × {image.size[1]} at least"
        return f"{given} pixels as decoded; rescaled to each of K scales, {least}"
    of_x = formula(image.mean, image.std, image.scale)
    if image.contract == "raw":
        given = "gray" if image.color == "gray" else "RGB"
        return f"{given} pixels as decoded; the graph computes {of_x}, {image.color}"
    return f"{image.color}, {of_x} for x from 0 to 255"


def _output(output: "OutputContract", *, is_batch: bool) -> str:
    shape = "N × " * is_batch + str(output.channels) + " × h × w" * output.is_map
    return f"{shown(output.name)}: float32 {shape}"


def _member_rows(manifest: "Manifest") -> Iterator[tuple[str, str, str]]:
    for member in manifest.members:
        averaged = f"{member.average} averaged over space"
        yield shown(member.name), _pixels(member.input), averaged


def _protocol(manifest: "Manifest") -> str:
    test = manifest.test
    words = [f"Q {', '.join(map(str, test.scales))}"]
    if test.dense or test.crops is None:
        words.append("dense" if manifest.input.is_dynamic else "the central crop")
    if test.crops is not None:
        words.append(f"{test.crops} × {test.crops} crops")
    if test.resize == "torchvision":
        words.append("rescaled as by torchvision")
    words.append("with mirror images" if test.flip else "no mirror images")
    if not manifest.members:  # each of which has its own way
        words.append(f"{manifest.average} averaged over space")
    return ", ".join(words)


def _precision_in_words(manifest: "Manifest") -> str:
    kept = f"; {', '.join(map(shown, manifest.fp32_layers))} in fp32"
    return manifest.precision + (kept if manifest.fp32_layers else "")


def _labels(manifest: "Manifest") -> str:
    result = manifest.result
    if manifest.labels is None:
        number = result.channels // 4 if result.kind == "boxes" else result.channels
        return f"{number}, without labels"
    some = [shown(label) for label in manifest.labels[:LABELS_SHOWN]]
    more = ", …" if len(manifest.labels) > LABELS_SHOWN else ""
    return f"{len(manifest.labels)}: {', '.join(some)}{more}"


def _profile_rows(manifest: "Manifest") -> Iterator[tuple[str, ...]]:
    profiles = _profiles(manifest)
    if profiles:
        yield ("", "min", "opt", "max")
    for i, profile in enumerate(profiles):
        yield (str(i), *(_shape(shape) for shape in (profile.min, profile.opt, profile.max)))


def _profiles(manifest: "Manifest") -> "tuple[Profile, ...]":
    """An engine's; a graph has none and takes all sizes."""
    return manifest.engine.profiles if manifest.engine is not None else ()


def _engine_rows(engine: "Engine") -> Iterator[tuple[str, str]]:
    title = FLAVOURS[engine.flavour].title
    cuda = f", CUDA {engine.cuda}" if engine.cuda else ""
    yield "built by", f"{title} {shown(engine.version)}{cuda}, on {shown(engine.platform)}"
    yield "on", shown(engine.gpu) if engine.gpu else "no GPU"
    hardware = {
        "none": "",
        "ampere_plus": "; Ampere and later",
        "same_compute_capability": "; all of this compute capability",
    }
    yield "for", f"compute capability {shown(capabilities(engine))}{hardware[engine.hardware]}"
    later = "and later ones" if engine.is_version_compatible else "alone"
    yield "runs on", f"that version of {title} {later}"
    yield "TF32", "fp32 layers may round to it" if engine.tf32 else "off"
    refit = {"none": "none", "all": "all", "identical": "with the same numbers only"}
    missing = "; the plan has none in it yet" if engine.is_stripped else ""
    yield "refit", f"{refit[engine.refit]}{missing}"
    yield "level", f"{engine.level} of 0 to 5"


def _file_rows(manifest: "Manifest") -> Iterator[tuple[str, str, str, str]]:
    for entry in manifest.files:
        whole = "" if entry.from_byte == 0 else f" from byte {entry.from_byte} on"
        needed = "" if entry.is_needed else "may be deleted"
        stated = ", as the file states it; not read" if entry.is_stated else ""
        digest = f"sha256 {shown(entry.sha256[:DIGEST_DIGITS])}…{whole}{stated}"
        yield shown(entry.path), memory(entry.bytes), digest, needed


def _layer_rows(layers: Sequence[LayerFacts]) -> Iterator[tuple[str, ...]]:
    if layers:
        yield LAYER_HEADINGS
    for each in layers:
        if each.precision in SHAPE_TYPES:
            continue
        yield (
            _cut(each.name),
            _cut(each.op),
            shown(each.precision),
            _dims(each.output),
            _cut(", ".join(each.reads)),
        )


def _cut(name: str) -> str:
    name = shown(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _dims(axes: Sequence[int]) -> str:
    """``N × 64 × h × w``: open axes by their letters."""
    letters = iter("hw")
    words = [
        str(axis) if axis >= 0 else "N" if i == 0 else next(letters, "?")
        for i, axis in enumerate(axes)
    ]
    return " × ".join(words)


def _shape(shape: "Shape") -> str:
    return " × ".join(map(str, shape))


def _pair(sides: tuple[int, int]) -> str:
    return count(sides[0], "pixel") if sides[0] == sides[1] else f"{sides[0]} × {sides[1]} pixels"


# As data.


def _as_dict(
    manifest: "Manifest", layers_from: str, layers: Sequence[LayerFacts]
) -> dict[str, object]:
    """The manifest with its layers; profiles are those that the test protocol asks for."""
    found: dict[str, object] = asdict(manifest) | {
        "format": FORMAT,
        "form": manifest.form,
        "average": manifest.average,
        "pool": manifest.pool,
        "finer_stride": manifest.options.stride,
        "layer": manifest.layer,
        "precision": manifest.precision,
        "fp32_layers": manifest.fp32_layers,
    }
    try:
        asked = profiles_of(manifest)
    except VggspecError:
        asked = ()
    found["test_profiles"] = [asdict(profile) for profile in asked]
    found["layers_from"] = layers_from
    found["layers"] = [asdict(layer) for layer in layers]
    return found
