# ruff: noqa: RUF009 (`_flag` gives a field its default and its flag)
"""Everything that a user chooses about a compiled net, as one frozen value.

``CompileOptions`` is written once and used everywhere: the flags of ``vggspec compile`` and the
keywords of ``vggspec.compile`` are its fields, a bundle's manifest stores it, another form of a
bundle is ``dataclasses.replace`` of it, and ``flags`` writes the command that rebuilds a bundle.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, replace
from typing import Annotated, Any, Literal, TypeVar, get_args

from vggspec.base.arguments import MAX_THREADS
from vggspec.base.bounds import AtMost, Range
from vggspec.base.recipe import MAX_SCALE, Average, Form, Rounding, TestProtocol
from vggspec.bundle.engine import MAX_ENTRIES, Flavour, Hardware, Refit
from vggspec.bundle.profile import Profile

Precision = Literal["fp32", "fp16", "bf16", "int8"]
LayerInfo = Literal["none", "names", "all"]
Value = TypeVar("Value")

FLAG = "flag"

NO_LAYER = "none"
"""In place of a layer's name: that there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How the command line writes a field.

    A name such as ``--dense/--crop`` writes both values of a field that has two.
    """

    name: str
    help: str
    metavar: str | None = None


def _flag(default: Value, name: str, help_: str, metavar: str | None = None) -> Value:
    """A field with a default and a flag."""
    found: Value = field(
        default=default, metadata={FLAG: Flag(name=name, help=help_, metavar=metavar)}
    )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How a TensorRT engine is built."""

    flavour: Flavour | None = _flag(
        None,
        "--trt-flavor",
        "The classic TensorRT, which builds on the GPU that will run the engine, or TensorRT-RTX, "
        "which builds on any machine.  [default: the one that is installed; if both are, the "
        "classic one where there is a GPU]",
    )
    profiles: Annotated[tuple[Profile, ...], AtMost(MAX_ENTRIES)] = _flag(
        (),
        "--profile",
        "A range of input shapes, images x rows x columns, such as 1x256x256,2x256x341,8x256x512; "
        "may be repeated.  [default: two for each scale of the spec's `test:`, landscape and "
        "portrait]",
        "MIN,OPT,MAX",
    )
    max_batch: Annotated[int, Range(1, 1 << 16)] | None = _flag(
        None,
        "--max-batch",
        "Largest number of images in a run, in the default profiles.  [default: 8; 10 crops]",
        "N",
    )
    tf32: bool = _flag(
        False,
        "--tf32/--no-tf32",
        "Allow fp32 layers to round their inputs to TF32.  [default: no]",
    )
    capabilities: Annotated[tuple[str, ...], AtMost(MAX_ENTRIES)] = _flag(
        (),
        "--capability",
        "A compute capability to build for, with TensorRT-RTX; may be repeated.  [default: 8.0, "
        "8.6, 8.9, 12.0 and later]",
        "X.Y",
    )
    level: Annotated[int, Range(0, 5)] | None = _flag(
        None,
        "--opt-level",
        "How long the classic builder searches for fast kernels.  [default: 3]",
        "0-5",
    )
    workspace: Annotated[int, Range(1)] | None = _flag(
        None,
        "--workspace",
        "Scratch memory that a kernel may use, in MiB.  [default: all memory of the GPU]",
        "MIB",
    )
    threads: Annotated[int, Range(1, MAX_THREADS)] | None = _flag(
        None,
        "--threads",
        "Threads of the builder. With TensorRT-RTX, 1 nearly always gives the same bytes.  "
        "[default: one for each processor]",
        "N",
    )
    timing_cache: str | None = _flag(
        None, "--timing-cache", "File in which the classic builder keeps kernel timings.", "FILE"
    )
    timing_cache_mode: Literal["record", "replay"] = _flag(
        "record",
        "--timing-cache-mode",
        "Add new timings to that file, or leave it unchanged.  [default: record]",
    )
    version_compatible: bool = _flag(
        False,
        "--version-compatible",
        "Allow later releases of the classic TensorRT to run the engine.",
    )
    hardware: Hardware = _flag(
        "none",
        "--hardware-compatible",
        "Allow other GPUs to run a classic engine.  [default: none]",
    )
    refittable: bool = _flag(False, "--refittable", "Allow `vggspec refit` to replace the weights.")
    strip_weights: bool = _flag(
        False, "--strip-weights", "Leave the weights out of the plan; `vggspec refit` adds them."
    )
    layer_info: LayerInfo = _flag(
        "all",
        "--layer-info",
        "Layer details that an inspector can read from the plan.  [default: all]",
    )

    @property
    def refit(self) -> Refit:
        """Which weights the plan takes: a plan without its weights takes at least those back."""
        return "all" if self.refittable else "identical" if self.strip_weights else "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """What a compiled net computes and how. None is as the spec says."""

    form: Form | None = _flag(
        None,
        "--dense/--crop",
        "Apply FC layers as convolutions, to images of any size, or keep them and one size.  "
        "[default: dense; with --torch: crop]",
    )
    contract: Literal["float", "raw"] = _flag(
        "float",
        "--input",
        "What the graph takes: normalised float32 NCHW, or uint8 NHWC pixels as decoded.  "
        "[default: float]",
    )
    average: Average | None = _flag(
        None,
        "--average",
        "What is averaged over space.  [default: as in the spec's `test:`, else scores]",
    )
    keep_map: bool = _flag(False, "--map", "Also output the class score map.")
    pool: Rounding | None = _flag(
        None,
        "--pool",
        "How pooling rounds: down, or up as in Caffe.  [default: as in the spec]",
    )
    stride: Annotated[int, Range(1, MAX_SCALE)] | None = _flag(
        None,
        "--stride",
        "Distance between two positions of the score map: 16 or 8 for the paper's nets. Uses "
        "dilation, in one pass.  [default: the net's own]",
        "PIXELS",
    )
    layer: str | None = _flag(
        None,
        "--layer",
        "Output the activations of one layer, averaged over space, instead of the net's own "
        "output: conv4_3, fc7.",
        "NAME",
    )
    precision: Precision = _flag(
        "fp32",
        "--precision",
        "Number type of the arithmetic; averages and soft-max stay in fp32. Without --trt, bf16 "
        "allows a runtime to multiply in it.  [default: fp32]",
    )
    calibrate: str | None = _flag(
        None,
        "--calibrate",
        "With --precision int8: images like those that the net will see, best in a folder for "
        "each class. One part calibrates, another one measures the accuracy.",
        "DIR",
    )
    calibration_images: Annotated[int, Range(1, 1 << 16)] = _flag(
        128,
        "--calibration-images",
        "Images of DIR that calibrate, evenly from all.  [default: 128, at most half of all]",
        "N",
    )
    max_drop: Annotated[float, Range(0, 100)] = _flag(
        1.0,
        "--max-drop",
        "Refuse an int8 net whose top-1 accuracy on held-out images of DIR is lower than that of "
        "fp32 by more.  [default: 1]",
        "POINTS",
    )
    keep_fp32: tuple[str, ...] = _flag(
        (),
        "--keep-fp32",
        "A layer that always computes in fp32; may be repeated; `none` for none.  [default for "
        "int8: the first and the last, if that is more accurate]",
        "LAYER",
    )
    single_file: bool = _flag(False, "--single-file", "Embed the weights in the ONNX file.")
    link_weights: bool = _flag(
        False,
        "--link-weights/--copy-weights",
        "Hard-link the weights into the bundle. It saves their space where the file system cannot "
        "clone files, but onnx and tools built on it refuse to load linked weights.  [default: "
        "copy]",
    )
    protocol: bool = _flag(
        False,
        "--protocol",
        "Put the whole test protocol into the graph, which then takes a picture and the scales; "
        "several specs are fused.",
    )
    flip: bool | None = _flag(
        None,
        "--flip/--no-flip",
        "With --protocol: average with the mirror image.  [default: as in the spec's `test:`]",
    )
    distance: bool = _flag(
        False,
        "--distance",
        "Take two pictures, and output how far apart they are in the activations that the spec's "
        "`outputs` line names: LPIPS.",
    )
    factors: str | None = _flag(
        None,
        "--factors",
        "With --distance: the learned factors of the channels, such as vgg.pth of the package "
        "lpips.  [default: all channels count alike]",
        "FILE",
    )
    engine: EngineOptions | None = None
    """How the engine is built; None is a graph for ONNX Runtime."""

    def settled(self, test: TestProtocol) -> "CompileOptions":
        """The options with what the spec says where they are None."""
        return replace(self, form=self.form or "dense", average=self.average or test.average)

    @property
    def is_dense(self) -> bool:
        """Whether FC layers are applied as convolutions."""
        return self.form != "crop"


def flag_of(one: "Field[Any]") -> Flag | None:
    """The flag of a field; None where it has none of its own."""
    found: Flag | None = one.metadata.get(FLAG)
    return found


def flags(options: CompileOptions) -> list[str]:
    """The options as ``vggspec compile`` takes them; defaults are left out."""
    words = [] if options.engine is None else ["--trt", *_words(options.engine)]
    return [*words, *_words(options)]


def _words(options: CompileOptions | EngineOptions) -> Iterator[str]:
    for each in fields(options):
        flag, value = flag_of(each), getattr(options, each.name)
        if flag is None or value == each.default:
            continue
        yes, _, no = flag.name.partition("/")
        if isinstance(value, bool):
            yield yes if value else no
        elif no:
            yield yes if value == get_args(Form)[0] else no
        else:
            for one in value if isinstance(value, tuple) else (value,):
                yield from (yes, str(one))
