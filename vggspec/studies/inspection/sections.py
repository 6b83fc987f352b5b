"""A manifest in words, as tables. Strings of the manifest are made safe to print."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vggspec.base.quantities import memory
from vggspec.base.render import shown
from vggspec.base.wording import all_of, count
from vggspec.bundle.calibration import Calibration
from vggspec.bundle.engine import Engine, Hardware, Refit
from vggspec.bundle.manifest import (
    FACTORS,
    SCALES,
    FileEntry,
    InputContract,
    Manifest,
    OutputContract,
    Position,
)
from vggspec.compiler.bundling import deepstream, triton
from vggspec.compiler.input_contract import formula
from vggspec.runtime.compatibility import capabilities
from vggspec.runtime.tensorrt.library import FLAVOURS

DIGEST_DIGITS = 12
LABELS_SHOWN = 3

HARDWARE: dict[Hardware, str] = {
    "none": "",
    "ampere_plus": "; Ampere and later",
    "same_compute_capability": "; every GPU of this compute capability",
}
REFIT: dict[Refit, str] = {"none": "none", "all": "all", "identical": "with the same numbers only"}


@dataclass(frozen=True, slots=True)
class Section:
    """A table with a title; the last column is text that may be wrapped."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    """The columns that are flush right."""


def sections(manifest: Manifest) -> Iterator[Section]:
    """The tables of a bundle that has them, the general one first."""
    yield Section(f"net {shown(manifest.net)}, {_kind(manifest)}", tuple(_facts(manifest)))
    if manifest.members:
        yield Section("nets", tuple(_members(manifest)))
    if manifest.engine is not None:
        yield Section("profiles", tuple(_profiles(manifest.engine)))
        yield Section("engine", tuple(_engine(manifest.engine)))
    yield Section("files", tuple(map(_file, manifest.files)), right=(1,))


def _kind(manifest: Manifest) -> str:
    form = "dense" if manifest.form == "dense" else "for crops of one size"
    if manifest.engine is None:
        return f"{form}: a graph for ONNX Runtime in {manifest.precision}"
    title = FLAVOURS[manifest.engine.flavour].title
    return f"{form}: an engine of {title} in {manifest.precision}"


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    image = manifest.input
    yield "input", f"{all_of([shown(name) for name in manifest.inputs])}: {_tensor(image)}"
    yield "", _pixels(image)
    for i, output in enumerate(manifest.outputs):
        yield "" if i else "output", _output(output, is_batch=not manifest.members)
    if manifest.compares:
        has_factors = any(entry.path == FACTORS for entry in manifest.files)
        learned, alike = "learned, one for each channel", "none: all channels count alike"
        yield "factors", learned if has_factors else alike
    if manifest.layer is not None:
        yield "layer", shown(manifest.layer)
    if manifest.pool is not None:
        yield "pooling", f"rounded {'up' if manifest.pool == 'ceil' else 'down'}"
    has_inner = manifest.result.kind in ("activations", "distance")
    if manifest.segments:
        yield "tiles", f"begin at multiples of {_pair(manifest.stride)}"
    elif not has_inner:
        rows, columns = manifest.window
        yield "window", f"{rows} × {columns} pixels, stride {_pair(manifest.stride)}"
    if not manifest.compares:  # pictures are compared as they are
        yield "test", _protocol(manifest)
    yield "precision", _precision(manifest)
    if manifest.calibration is not None:
        yield "calibrated", _calibrated(manifest.calibration)
        yield "", manifest.calibration.in_words()
    if not has_inner:
        yield "classes", _labels(manifest)
    tools = (f"{shown(name)} {shown(version)}" for name, version in manifest.tools.items())
    yield "made by", ", ".join(tools)
    for title, server in (("Triton", triton), ("DeepStream", deepstream)):
        reason = server.why_not(manifest)
        yield title, server.CONFIG if reason is None else f"no: {reason}"


def _tensor(image: InputContract) -> str:
    channels = len(image.mean)
    height, width = ("H", "W") if image.is_dynamic else map(str, image.size)
    if image.contract == "picture":
        return f"uint8 H × W × {channels}; {SCALES}: int64 K"
    if image.contract == "raw":
        shape = f"uint8 N × {height} × {width} × {channels}"
    else:
        shape = f"float32 N × {channels} × {height} × {width}"
    least = f", at least {image.size[0]} × {image.size[1]}" if image.is_dynamic else ""
    fitting = "" if image.sizes == "any" else f"; sizes {image.sizes}"
    return f"{shape}{least}{fitting}"


def _pixels(image: InputContract) -> str:
    """How pixels become the net's input."""
    given = "gray" if image.color == "gray" else "RGB"
    if image.contract == "picture":
        least = f"at least {image.size[0]} × {image.size[1]}"
        return f"{given} pixels as decoded; rescaled to each of K scales, {least}"
    of_x = formula(image.mean, image.std, image.scale)
    if image.contract == "raw":
        return f"{given} pixels as decoded; the graph computes {of_x}, {image.color}"
    return f"{image.color}, {of_x} for x from 0 to 255"


def _output(output: OutputContract, *, is_batch: bool) -> str:
    size = " × h × w" if output.size is None else f" × {_sizes(output.size)}"
    if output.kind == "distance":
        return f"{shown(output.name)}: float32 N"
    shape = "N × " * is_batch + str(output.channels) + size * output.is_map
    return f"{shown(output.name)}: float32 {shape}{_position(output.position)}"


def _position(position: Position | None) -> str:
    """What the positions of a map of activations, or of posteriors, see."""
    if position is None:
        return ""
    first = ", ".join(map(str, position.start))
    window, stride = _sizes(position.window), _pair(position.stride)
    place = ""
    if position.place is not None:
        place = f"; the first position at ({', '.join(f'{axis:g}' for axis in position.place)})"
    return f"; window {window} pixels from ({first}), stride {stride}{place}"


def _members(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for member in manifest.members:
        yield (
            shown(member.name),
            f"{_pixels(member.input)}; {member.average} averaged over space",
        )


def _protocol(manifest: Manifest) -> str:
    test = manifest.test
    words = [f"Q {', '.join(map(str, test.scales))}"]
    if test.dense or test.crops is None:
        words.append("dense" if manifest.input.is_dynamic else "the central crop")
    if test.crops is not None:
        words.append(f"{test.crops} × {test.crops} crops")
    if test.resize == "torchvision":
        words.append("rescaled as by torchvision")
    words.append("with mirror images" if test.flip else "no mirror images")
    by_position = manifest.result.kind in ("activations", "posterior_map")
    if not manifest.members and not by_position:  # each member has an average of its own
        words.append(f"{manifest.average} averaged over space")
    return ", ".join(words)


def _precision(manifest: Manifest) -> str:
    kept = f"; {', '.join(map(shown, manifest.fp32_layers))} in fp32"
    return manifest.precision + (kept if manifest.fp32_layers else "")


def _calibrated(made: Calibration) -> str:
    return (
        f"by the {made.method} of {count(made.images, 'image')} at {made.scale} pixels, "
        f"{made.images_sha256[:12]}…"
    )


def _labels(manifest: Manifest) -> str:
    result = manifest.result
    if manifest.labels is None:
        number = result.channels // 4 if result.kind == "boxes" else result.channels
        return f"{number}, without labels"
    some = [shown(label) for label in manifest.labels[:LABELS_SHOWN]]
    more = ", …" if len(manifest.labels) > LABELS_SHOWN else ""
    return f"{len(manifest.labels)}: {', '.join(some)}{more}"


def _profiles(engine: Engine) -> Iterator[tuple[str, ...]]:
    yield ("", "min", "opt", "max")
    for i, profile in enumerate(engine.profiles):
        yield (str(i), *(_sizes(shape) for shape in (profile.min, profile.opt, profile.max)))


def _engine(engine: Engine) -> Iterator[tuple[str, str]]:
    title = FLAVOURS[engine.flavour].title
    cuda = f", CUDA {engine.cuda}" if engine.cuda else ""
    yield "built by", f"{title} {shown(engine.version)}{cuda}, on {shown(engine.platform)}"
    yield "on", shown(engine.gpu) if engine.gpu else "no GPU"
    served = f"compute capability {shown(capabilities(engine))}"
    yield "for", f"{served}{HARDWARE[engine.hardware]}"
    later = "and later versions" if engine.is_version_compatible else "only"
    yield "runs on", f"that version of {title} {later}"
    yield "TF32", "fp32 layers may round to it" if engine.tf32 else "off"
    missing = "; the plan does not contain its weights" if engine.is_stripped else ""
    yield "refit", f"{REFIT[engine.refit]}{missing}"
    yield "level", f"{engine.level} of 0 to 5"


def _file(entry: FileEntry) -> tuple[str, str, str, str]:
    notes = [
        f"from byte {entry.from_byte} on" if entry.from_byte else "",
        "as the file states it, not read" if entry.is_stated else "",
        "" if entry.is_needed else "may be deleted",
    ]
    digest = f"sha256 {shown(entry.sha256[:DIGEST_DIGITS])}…"
    return shown(entry.path), memory(entry.bytes), digest, "; ".join(filter(None, notes))


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _pair(sides: tuple[int, int]) -> str:
    return count(sides[0], "pixel") if sides[0] == sides[1] else f"{sides[0]} × {sides[1]} pixels"
