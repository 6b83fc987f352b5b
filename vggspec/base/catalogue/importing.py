"""Mistakes about checkpoints of other tools, and about what weights expect of their input."""

from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic

#: Layers that a message names before it only counts.
SHOWN = 3


def some(names: tuple[str, ...]) -> str:
    """Names in backquotes, the first few of them and how many more."""
    shown = [f"`{name}`" for name in names[:SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


@dataclass(frozen=True, kw_only=True)
class UnclearOrder(Diagnostic):
    """Several layers have weights of one shape, and nothing says for certain which tensors are
    whose.

    Layers of other shapes are told apart by those. Between equal ones the order decides: that of
    the file, where it has one, and that of the names, where they are numbered. Where these
    contradict each other, or there is neither, write down which is which:

        vggspec import net.vgg net.safetensors --map conv1_1=first --map conv1_2=second
    """

    code = "VGG540"
    layers: tuple[str, ...]
    theirs: tuple[str, ...]
    reason: str

    def title(self) -> str:
        return (
            f"{some(self.layers)} have weights of one shape, and it is not clear which of"
            f" {some(self.theirs)} are whose: {self.reason}"
        )

    def help(self) -> str | None:
        pairs = zip(self.layers[:2], self.theirs[:2], strict=False)
        given = " ".join(f"--map {ours}={theirs}" for ours, theirs in pairs)
        return f"say which is which, for instance `{given}`"


@dataclass(frozen=True, kw_only=True)
class UnclearLayout(Diagnostic):
    """The shapes of the weights fit several layouts, which are different numbers for the net.

        oihw    out, in, rows, columns: PyTorch, Caffe, and vggspec itself
        ohwi    out, rows, columns, in: MLX
        hwio    rows, columns, in, out; FC layers in, out: Keras, TensorFlow, JAX

    In the latter two, the first FC layer takes its map as rows, columns, channels.
    """

    code = "VGG541"
    TITLE = "the weights may be laid out as {layouts:either}: their shapes fit each"
    HELP = (
        "say which it is: `--layout oihw` for PyTorch and Caffe, `--layout ohwi` for MLX, "
        "`--layout hwio` for Keras and TensorFlow"
    )
    layouts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UnknownNormalisation(Diagnostic):
    """Neither the spec nor the checkpoint says how the pixels were normalised on which the weights
    were trained, and with other numbers than those a net gives wrong answers that look right.

    Name whose weights they are, or write the numbers into the spec's input:

        input 224x224 RGB(mean 123.68 116.779 103.939)
    """

    code = "VGG542"
    TITLE = "neither the spec nor the checkpoint says how the net's input is normalised"
    line: str
    sees_colours: bool
    """Whether the net is one of those that others have trained."""

    def help(self) -> str | None:
        if not self.sees_colours:
            return f"write the numbers into the spec, in the place of these: `{self.line}`"
        return (
            "name whose weights they are with `--from torchvision`, `timm`, `mmpretrain`, `keras`,"
            f" `caffe` or `tf-slim`, or write the numbers into the spec: `{self.line}`"
        )


@dataclass(frozen=True, kw_only=True)
class OtherNormalisation(Diagnostic):
    """The spec's input is normalised in another way than that which the weights expect.

    A weights file that was imported says what its net was trained on. Where the spec says nothing
    of mean, std and scale, that is taken; where it says something else, one of them is wrong.
    """

    code = "VGG543"
    spec: str
    weights: str
    source: str | None
    line: str
    is_import: bool
    can_turn: bool
    """Whether another order of the channels is all or part of it, which import can turn."""

    def title(self) -> str:
        whose = f", as {self.source} does" if self.source not in (None, "spec") else ""
        return f"the spec's input is {self.spec}; the weights expect {self.weights}{whose}"

    def help(self) -> str | None:
        again = "give" if self.is_import else "import the weights again with"
        if self.can_turn:
            return (
                f"write `{self.line}` in the spec, or import the weights again for this spec, which"
                " turns their first layer"
            )
        return f"write `{self.line}` in the spec; if the spec is right, {again} `--from spec`"


@dataclass(frozen=True, kw_only=True)
class NotFiniteTensor(Diagnostic):
    """A tensor that a layer of the net takes holds infinities or NaN.

    Tensors that no layer takes are not looked at: some checkpoints of features alone hold a
    classifier of NaN.
    """

    code = "VGG544"
    TITLE = "`{layer}` takes `{tensor}`, which holds numbers that are not finite"
    layer: str
    tensor: str


@dataclass(frozen=True, kw_only=True)
class SeveralNets(Diagnostic):
    """The file holds the weights of several nets that fit the spec, a student's and a teacher's for
    instance, or those of an optimiser, which have the shapes of the net's.
    """

    code = "VGG545"
    prefixes: tuple[str, ...]
    """What the names of each begin with; of one of them with nothing."""

    def title(self) -> str:
        named = tuple(prefix for prefix in self.prefixes if prefix)
        beside = "" if len(named) == len(self.prefixes) else ", and one whose names begin otherwise"
        return f"the file holds several nets that fit: {some(named)}{beside}"

    def help(self) -> str | None:
        named = [prefix for prefix in self.prefixes if prefix]
        left_out = named if len(named) < len(self.prefixes) else named[1:]
        given = " ".join(f"--ignore {prefix}" for prefix in left_out[:SHOWN])
        return f"leave out all but one, for instance with `{given}`"


@dataclass(frozen=True, kw_only=True)
class UnusedWeights(Diagnostic):
    """The checkpoint holds weights that no layer of the spec takes, so its net is another one.

    A learned factor of every channel is an example, as PReLU, group normalisation or an L2 norm
    have one. Weights that are no part of the net, such as those of a loss, are left out with
    ``--ignore``.
    """

    code = "VGG546"
    net: str
    tensors: tuple[str, ...]

    def title(self) -> str:
        return f"net {self.net} has no layer for {some(self.tensors)}"

    def help(self) -> str | None:
        return (
            f"add the layer to the spec; if it is no part of the net, leave it out with"
            f" `--ignore {self.tensors[0]}`"
        )


@dataclass(frozen=True, kw_only=True)
class BadName(Diagnostic):
    """``--map`` takes a layer of the spec and one of the checkpoint, ``--ignore`` one of the
    checkpoint:

        vggspec import net.vgg net.pth --map conv1_1=features.0 --ignore loss
    """

    code = "VGG547"
    TITLE = "`{option}`: {reason}"
    HELP = "write `{suggestion}`"
    option: str
    reason: str
    suggestion: str | None = None
