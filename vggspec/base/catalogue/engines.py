"""Mistakes found while an engine is built (VGG60x and VGG61x)."""

from vggspec.base.diagnostic import Diagnostic


class BadProfile(Diagnostic):
    """An optimisation profile is three shapes, the smallest, the usual and the largest input, each
    written as images x rows x columns: ``--profile 1x256x256,2x256x341,8x256x512``. The channels
    can be written too: ``1x3x256x256``.
    """

    code = "VGG601"
    TITLE = "`--profile {text}` is not an optimisation profile: {why}"
    HELP = "write min,opt,max, such as 1x256x256,2x256x341,8x256x512"
    text: str
    why: str


class ProfileBelowWindow(Diagnostic):
    """Profiles come from the scales of the spec's ``test:`` section, and a net cannot be applied to
    an image that is smaller than its window.
    """

    code = "VGG602"
    TITLE = "scale {scale} is smaller than the net's window of {window} pixels"
    HELP = "use larger scales in `test:`, or write the profiles with `--profile`"
    scale: int
    window: int


class NoSuchLayer(Diagnostic):
    """``--keep-fp32`` names layers as ``vggspec show`` lists them. Layers that the compiler drops,
    such as dropout, cannot be named.
    """

    code = "VGG603"
    TITLE = "the compiled net has no layer `{layer}`"
    HELP = ("did you mean `{like}`?", "`vggspec show SPEC` lists them")
    layer: str
    like: str | None


class WeightTooLarge(Diagnostic):
    """The largest number in half precision is 65504: a larger weight would become infinite, and so
    would every output of the net.
    """

    code = "VGG604"
    TITLE = "`{weight}` contains {value:g}, which {precision} cannot represent"
    weight: str
    value: float
    precision: str

    def help(self) -> str | None:
        layer = self.weight.rpartition(".")[0]
        return f"keep that layer in fp32 with `--keep-fp32 {layer}`, or use `--precision bf16`"


class NotForFlavour(Diagnostic):
    """The two flavours of TensorRT build differently. The classic one builds on a GPU for that
    GPU. TensorRT-RTX builds on any machine for named compute capabilities, and the machine that
    runs the engine completes it.
    """

    code = "VGG605"
    TITLE = "`{option}` cannot be used with {flavour}: {because}"
    HELP = "{instead}"
    option: str
    flavour: str
    because: str
    instead: str


class NoGpuToBuild(Diagnostic):
    """The classic TensorRT times kernels on the GPU that will run the engine, so it cannot build
    without one. TensorRT-RTX can.
    """

    code = "VGG606"
    TITLE = (
        "with `{option}` TensorRT-RTX requires a GPU, and this machine has none",
        "TensorRT builds an engine on the GPU that will run it, and this machine has none",
    )
    option: str | None

    def help(self) -> str | None:
        if self.option is None:
            return "build there, or here with `--trt-flavor tensorrt_rtx`"
        return "remove it, or build on a machine with a GPU"


class ParserRefused(Diagnostic):
    """TensorRT's ONNX parser does not support a node of the graph."""

    code = "VGG607"
    HELP = "compile the net without `--trt` and run it with ONNX Runtime"
    layer: str
    op: str
    reason: str

    def title(self) -> str:
        of = f"layer `{self.layer}` ({self.op})" if self.layer else "the graph"
        return f"TensorRT cannot read {of}: {self.reason}"


class BuildFailed(Diagnostic):
    """TensorRT parsed the net and could not build an engine from it. The message quotes TensorRT;
    ``-v`` shows everything that it logged before. TensorRT-RTX does not support every GPU: on a
    GPU of compute capability 9.0, such as an H100 or H200, build with the classic TensorRT.
    """

    code = "VGG608"
    TITLE = "TensorRT could not build the engine: {reason}"
    reason: str
    instead: str | None = None
    """What to do, where it is known."""

    def help(self) -> str | None:
        usual = "see more with `-v`; if memory ran out, use smaller profiles or `--workspace`"
        return self.instead or usual


class NotAsAsked(Diagnostic):
    """The engine, or the network that TensorRT was about to build, differs from the request: in a
    number type, a profile or a format. An engine that silently differs is worse than none, so none
    is written.
    """

    code = "VGG609"
    TITLE = "{what} should be {asked}, and TensorRT made it {found}"
    HELP = "no engine was written; this is a bug in vggspec or TensorRT, please report it"
    what: str
    asked: str
    found: str


class ProfileOutOfReach(Diagnostic):
    """The net cannot be applied to images of a size that a profile includes."""

    code = "VGG610"
    TITLE = "the profile {profile} does not fit the net: {reason}"
    HELP = "use shapes no smaller than the net's window, or exactly its size for `--crop`"
    profile: str
    reason: str
