"""Mistakes found while a checkpoint is matched with a net, and its input with the spec's (VGG54x,
VGG57x).
"""

from vggspec.base.diagnostic import Diagnostic

#: Layers that a message names before it only counts.
SHOWN = 3


def some(names: tuple[str, ...]) -> str:
    """Names in backquotes, the first few of them and how many more."""
    shown = [f"`{name}`" for name in names[:SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


class UnclearOrder(Diagnostic):
    """Several layers have weights of one shape, and it is not certain which tensor belongs to
    which layer.

    Other layers are matched by their shapes. Layers of one shape are matched by the order of the
    file, if it has one, and by the names, if they are numbered. If the two contradict each other,
    or there is no order, name the pairs:

        vggspec import net.vgg net.npz --map conv1_1=first --map conv1_2=second
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
        return f"match them yourself, for instance `{given}`"


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
        "name the layout: `--layout oihw` for PyTorch and Caffe, `--layout ohwi` for MLX, "
        "`--layout hwio` for Keras and TensorFlow"
    )
    layouts: tuple[str, ...]


class UnknownNormalisation(Diagnostic):
    """Neither the spec nor the checkpoint defines how images were normalised during training. With
    any other normalisation the net silently gives wrong answers.

    Name the source of the weights, or write the numbers into the spec's input:

        input 224x224 RGB(mean 123.68 116.779 103.939)
    """

    code = "VGG542"
    TITLE = "neither the spec nor the checkpoint defines how the net's input is normalised"
    line: str
    sees_colours: bool
    """Whether the net is one of those that others have trained."""

    def help(self) -> str | None:
        if not self.sees_colours:
            return f"write the numbers into the spec, instead of these: `{self.line}`"
        return (
            "name their source with `--from torchvision`, `timm`, `mmpretrain`, `keras`,"
            f" `caffe` or `tf-slim`, or write the numbers into the spec: `{self.line}`"
        )


class OtherNormalisation(Diagnostic):
    """The spec normalises its input in another way than the weights expect.

    An imported weights file records how the input of its net was normalised in training. This is
    used if the spec has no mean, std or scale. If the spec has others, one of the two is wrong.
    """

    code = "VGG543"
    spec: str
    weights: str
    source: str | None
    line: str
    is_import: bool
    can_turn: bool
    """Whether the order of the channels differs, which ``import`` can change."""

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


class NotFiniteTensor(Diagnostic):
    """A tensor that a layer of the net takes contains infinities or NaN.

    Tensors that no layer takes are not checked: some checkpoints of features alone contain a
    classifier of NaN.
    """

    code = "VGG544"
    TITLE = "`{layer}` takes `{tensor}`, which contains numbers that are not finite"
    layer: str
    tensor: str


class SeveralNets(Diagnostic):
    """The file contains the weights of several nets that fit the spec, a student and a teacher for
    instance, or those of an optimiser, which have the shapes of the net's.
    """

    code = "VGG545"
    prefixes: tuple[str, ...]
    """The prefix of the names of each; one of them may be empty."""

    def title(self) -> str:
        named = tuple(prefix for prefix in self.prefixes if prefix)
        beside = "" if len(named) == len(self.prefixes) else ", and one whose names begin otherwise"
        return f"the file contains several nets that fit: {some(named)}{beside}"

    def help(self) -> str | None:
        named = [prefix for prefix in self.prefixes if prefix]
        left_out = named if len(named) < len(self.prefixes) else named[1:]
        given = " ".join(f"--ignore {prefix}" for prefix in left_out[:SHOWN])
        return f"leave out all but one, for instance with `{given}`"


class UnusedWeights(Diagnostic):
    """The checkpoint contains weights that no layer of the spec takes, so its net is another one.

    An example is a learned factor per channel, as in PReLU, group normalisation or an L2 norm.
    Weights that are no part of the net, such as those of a loss, are left out with ``--ignore``.
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


class BadName(Diagnostic):
    """``--map`` takes a layer of the spec and one of the checkpoint, ``--ignore`` one of the
    checkpoint:

        vggspec import net.vgg net.pth --map conv1_1=features.0 --ignore loss

    ``--layout`` is for files that do not define the axes of their kernels; those of Keras do.
    """

    code = "VGG547"
    TITLE = "`{option}`: {reason}"
    HELP = "write `{suggestion}`"
    option: str
    reason: str
    suggestion: str | None = None


class UnclearBranches(Diagnostic):
    """Layers on different branches have weights of one shape, and the checkpoint lists its layers
    in another order than the net.

    Authors do not agree which branch is first: some define the shortcut of a block before its
    convolutions, some after them. Where the whole file is in the order of the net, that order
    decides, and ``import`` says so where no name says the same. Elsewhere, name the pairs:

        vggspec import net.vgg w.pth --map conv2_1_conv3=c --map conv2_1_shortcut=p
    """

    code = "VGG548"
    layers: tuple[str, ...]
    theirs: tuple[str, ...]
    has_order: bool

    def title(self) -> str:
        why = (
            "the file lists its layers in another order than the net"
            if self.has_order
            else "the names do not give an order of all layers, and the file has none"
        )
        return (
            f"{some(self.layers)} have weights of one shape on different branches, and it is not"
            f" clear which of {some(self.theirs)} are whose: {why}"
        )

    def help(self) -> str | None:
        given = " ".join(f"--map {layer}=LAYER" for layer in self.layers[:2])
        return f"match them yourself: `{given}`, where LAYER is the checkpoint's"


class OtherEpsilon(Diagnostic):
    """A batch normalisation of the checkpoint adds another number to its variance than that of the
    spec, so its outputs would be others. Keras adds 0.001 by default, PyTorch 0.00001.

        conv is conv BN(eps 1e-3) ReLU

    Models of Keras (``.keras``, and ``.h5`` of whole models) and of Caffe say the number; Keras's
    files of weights do not.
    """

    code = "VGG549"
    TITLE = "`{theirs}` adds {found:g} to its variance, `{layer}` adds {eps:g}"
    HELP = "write `BN(eps {found:g})` in the spec"
    layer: str
    eps: float
    theirs: str
    found: float


class OtherClassOrder(Diagnostic):
    """The labels are ImageNet's, in another order than the classes of these weights.

    Published weights have the order of the sorted WordNet ids, from tench to toilet tissue. The
    development kit of ILSVRC numbers the classes otherwise, from kit fox on; with its list every
    answer of the net has the name of another class.
    """

    code = "VGG570"
    TITLE = (
        "these labels are ImageNet's in {order}; the classes of {source}'s weights are in that of"
        " the sorted WordNet ids"
    )
    HELP = "leave out `--labels`: ImageNet's names come with vggspec"
    order: str
    source: str


class NoPackagedSpec(Diagnostic):
    """``import`` without a spec takes the one that comes with vggspec and whose layers have the
    shapes of the checkpoint's. A net with other classes, or of another width, needs its own spec:

        vggspec specs D > mine.vgg      then change its `FC-1000`
        vggspec import mine.vgg CHECKPOINT

    Of an ONNX model, ``import`` writes the spec:

        vggspec import net.onnx --write-spec net.vgg
    """

    code = "VGG571"
    TITLE = "no spec that comes with vggspec has the layers of this checkpoint"
    HELP = (
        "the closest is `{closest}`: {reason}\n"
        "copy it with `vggspec specs {file} > mine.vgg`, change it, and name it:"
        " `vggspec import mine.vgg CHECKPOINT`"
    )
    closest: str
    reason: str

    @property
    def file(self) -> str:
        """The file of the spec, which may have several nets."""
        return self.closest.partition(":")[0]


class SeveralSpecs(Diagnostic):
    """Several specs that come with vggspec have layers of the checkpoint's shapes. They differ in
    what has no weights: local response normalisation, strides, padding.
    """

    code = "VGG572"
    TITLE = "the specs {names:join} come with vggspec, and each has the layers of this checkpoint"
    HELP = "name the one that it is: `vggspec import {first} CHECKPOINT`"
    names: tuple[str, ...]

    @property
    def first(self) -> str:
        """One of them, for the example."""
        return self.names[0]


class OtherScores(Diagnostic):
    """``--check`` ran the net of the weights' own library beside ours, on the same images, and they
    do not agree. No weights file was written.

    The spec differs in something that has no weights: a pooling that rounds up, a stride, an
    activation, the epsilon of batch normalisation, or the normalisation of the input.
    """

    code = "VGG573"
    TITLE = "{peer} gives other scores: they differ by {error:.2g} of the largest"
    HELP = "compare the spec with {peer}, or leave out `--check`"
    peer: str
    error: float


class NoPeer(Diagnostic):
    """``--check`` compares with the net of torchvision or timm that has exactly the tensors of the
    checkpoint: their names and their shapes.
    """

    code = "VGG574"
    TITLE = "there is nothing to compare with: {reason}"
    HELP = "leave out `--check`"
    reason: str
