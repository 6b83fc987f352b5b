"""Mistakes about weights files and bundles (VGG50x to VGG53x)."""

import shlex
from typing import Literal

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import all_of, count

MOST_NAMES = 6

REMEDY_OF_CHANGED_WEIGHTS = (
    "copy the file again from its source, or train again; if the change is intended, rewrite it\n"
    "with `vggspec import SPEC FILE -o NEW.safetensors`, which states the new digest"
)


class NoWeights(Diagnostic):
    """Compiling requires trained weights. ``--weights`` names them. The default is the best weights
    of the net's newest run under ``runs/<net>/``, else ``<net>.safetensors`` next to the spec or in
    the working folder.

        vggspec train D --data DIR      train them
        vggspec import D vgg16.pth      import them from another tool
        vggspec init D                  random weights, to try things out
    """

    code = "VGG501"
    TITLE = "no weights for net `{net}`"
    net: str
    spec: str
    looked: tuple[str, ...]

    def help(self) -> str | None:
        spec = shlex.quote(self.spec)
        return (
            f"looked for {all_of(self.looked)}; create them with one of\n"
            f"vggspec train {spec} --data DIR\n"
            f"vggspec import {spec} CHECKPOINT\n"
            f"vggspec init {spec}  # random"
        )


class BadWeightsFile(Diagnostic):
    """The file is not a whole safetensors file: it is something else, it was cut off while it was
    copied, or its header contradicts its size. No part of it is used.
    """

    code = "VGG502"
    TITLE = "this is not a usable weights file: {reason}"
    HELP = (
        "copy it again, or rewrite it; `vggspec import SPEC FILE` converts another tool's "
        "checkpoint"
    )
    reason: str


class OtherWeights(Diagnostic):
    """The tensors in the file are not those of the net: the file is for another net, or for another
    version of this one.
    """

    code = "VGG503"
    net: str
    missing: tuple[str, ...]
    unlike: tuple[str, ...]
    """Tensors of another shape, each as ``name: 10 x 20 here, 10 x 30 in the net``."""

    unknown: tuple[str, ...]
    made_for: str | None

    def title(self) -> str:
        of = f" of net `{self.made_for}`" if self.made_for and self.made_for != self.net else ""
        return f"these weights{of} do not fit net `{self.net}`"

    def help(self) -> str | None:
        lines = [f"{each} is missing" for each in self.missing[:4]]
        lines += [f"{each}" for each in self.unlike[:4]]
        lines += [f"{each} is not in the net" for each in self.unknown[:4]]
        total = len(self.missing) + len(self.unlike) + len(self.unknown)
        shown = len(lines)
        if total > shown:
            lines.append(f"and {total - shown} more")
        return "\n".join(lines)


class WrongNumberType(Diagnostic):
    """Weights are 32-bit floating point numbers."""

    code = "VGG504"
    TITLE = "`{tensor}` contains numbers of type {dtype}, not F32"
    HELP = "`vggspec import SPEC FILE -o NEW.safetensors` converts it to float32"
    tensor: str
    dtype: str


class UnknownCheckpoint(Diagnostic):
    """The checkpoint's tensors cannot be matched with the layers of the net, in their order and by
    their shapes.
    """

    code = "VGG505"
    TITLE = "this checkpoint cannot be read into the net: {reason}"
    reason: str


class NotFiniteWeights(Diagnostic):
    """Weights are finite numbers. NaN and infinities come from a training run that diverged, from a
    conversion to half precision, or from a damaged file. A class whose bias is -inf is never
    predicted, and its scores cannot be compared, so such weights are refused wherever they are
    read. Tensors that the net does not use are not checked.
    """

    code = "VGG506"
    tensors: tuple[str, ...]
    """Each as ``1 of 1000 numbers in `fc8.bias` is -inf``."""

    def title(self) -> str:
        return f"the weights are not finite: {self.tensors[0]}"

    def help(self) -> str | None:
        lines = list(self.tensors[1:MOST_NAMES])
        if len(self.tensors) > MOST_NAMES:
            lines.append(f"and {count(len(self.tensors) - MOST_NAMES, 'more array')}")
        return "\n".join([*lines, "use the weights of a run that did not diverge"])


class ChangedWeights(Diagnostic):
    """A weights file states the SHA-256 of its numbers, and another of its header. One of them does
    not match the content: another program edited the file and kept the digests, or the disk or a
    copy damaged it. vggspec cannot distinguish the two.

    If the change is intended, rewrite the file, which then states the digests of its content:

        vggspec import specs/D.vgg edited.safetensors -o D.safetensors
    """

    code = "VGG507"
    part: Literal["numbers", "header"]

    def title(self) -> str:
        have = "numbers have" if self.part == "numbers" else "header has"
        return f"the file was changed after it was written: its {have} another SHA-256 than stated"

    def help(self) -> str | None:
        return REMEDY_OF_CHANGED_WEIGHTS


class NoSuchFile(Diagnostic):
    """A file named on the command line does not exist or cannot be opened."""

    code = "VGG510"
    TITLE = "the {kind} cannot be read: {reason}"
    kind: str
    reason: str


class CannotWrite(Diagnostic):
    """The result could not be written, for the reason that the system gives. An existing file is
    unchanged, and no partial file is left.
    """

    code = "VGG511"
    TITLE = "this cannot be written: {reason}"
    reason: str


class InTheWay(Diagnostic):
    """Something that vggspec did not create is at the path of a bundle, a run, the demo or a file.
    vggspec does not delete it.
    """

    code = "VGG512"
    TITLE = "{what} already exists here"
    HELP = "choose another path with `-o`, or move it away"
    what: str


class NotABundle(Diagnostic):
    """A bundle is the folder that ``vggspec compile`` writes; its ``manifest.json`` describes the
    content.
    """

    code = "VGG521"
    HELP = (
        "its replacement was killed; the previous bundle is `{left_behind}`: rename it",
        "it is part of the bundle `{bundle}`",
        "create one with `vggspec compile SPEC --weights FILE -o BUNDLE`",
    )
    is_there: bool = True
    is_folder: bool = True
    bundle: str | None = None
    """The bundle that this is a part of."""

    left_behind: str | None = None
    """The bundle that was here when the command that replaced it was killed."""

    def title(self) -> str:
        if not self.is_there:
            return "there is no such bundle"
        if not self.is_folder:
            return "this is a file, and a bundle is a folder"
        return "this is not a bundle: it has no manifest.json"


class BadManifest(Diagnostic):
    """The bundle's ``manifest.json`` is damaged, or was changed by hand."""

    code = "VGG522"
    TITLE = "the manifest is damaged: {reason}"
    HELP = "compile the bundle again"
    reason: str


class NewerBundle(Diagnostic):
    """The bundle was written by a newer vggspec, in a format that this one does not know."""

    code = "VGG523"
    TITLE = "the bundle has format {format}, this vggspec reads up to {known}"
    HELP = "upgrade vggspec, or compile the bundle again"
    format: int
    known: int


class ChangedFile(Diagnostic):
    """A file of the bundle is not the one that was written: it is missing, truncated or changed.
    Weights that a bundle links to also change in the bundle when another program edits the file in
    place; ``vggspec explain VGG507`` says what to do.
    """

    code = "VGG524"
    TITLE = "`{file}` {reason}"
    file: str
    reason: str
    contradicts_itself: bool = False
    """Whether it is a weights file whose numbers do not match its own header."""

    def help(self) -> str | None:
        if not self.contradicts_itself:
            return "compile the bundle again"
        return (
            "its own header states another digest, so compiling with it would fail too:\n"
            f"{REMEDY_OF_CHANGED_WEIGHTS};\nthen compile the bundle again"
        )


class PathIsNoText(Diagnostic):
    """A name in the path has bytes that are not UTF-8 text. The library that opens the file takes
    no other names, and this system has no other name for the file.
    """

    code = "VGG537"
    TITLE = "the path is not UTF-8 text"
    HELP = "rename the folder or the file"


class ReplacedBundle(Diagnostic):
    """Another command replaced the bundle after this one had read its manifest. No result is
    computed from parts of both.
    """

    code = "VGG536"
    TITLE = "the bundle was replaced while it was read"
    HELP = "run the command again"


class NoMapInBundle(Diagnostic):
    """A heat map is drawn from the class score map, which a bundle only outputs when it was
    compiled with ``--map``.
    """

    code = "VGG525"
    TITLE = "a heat map requires the class score map, which the bundle does not output"
    HELP = "compile it with `--map`"


class NoClasses(Diagnostic):
    """The bundle's net does not end in class scores, so it cannot classify. ``vggspec features``
    writes the activations of layers, averaged over space; in Python
    ``vggspec.load(BUNDLE).outputs(IMAGE)`` gives all outputs as arrays.
    """

    code = "VGG526"
    TITLE = "the net gives {output}, not classes"
    output: str

    def help(self) -> str | None:
        if self.output == "boxes":
            return "use `vggspec localise`"
        return "use `vggspec features`, or in Python `vggspec.load(BUNDLE).outputs(IMAGE)`"


class EngineFailed(Diagnostic):
    """The engine that runs the bundle refused it, for the given reason."""

    code = "VGG527"
    TITLE = "the bundle cannot be loaded: {reason}"
    reason: str


class NotFinite(Diagnostic):
    """The net's output contains NaN or infinities, so that no class is the largest. The cause is
    weights that diverged in training, or half precision where a sum exceeds 65504.
    """

    code = "VGG528"
    TITLE = "the net's {output} are not finite numbers"
    HELP = "compile it in fp32, from the weights of a run that did not diverge"
    output: str


class RunFailed(Diagnostic):
    """The engine failed on this image, for the given reason. The usual cause is lack of memory,
    which a dense net needs in proportion to the size of the rescaled image.
    """

    code = "VGG529"
    TITLE = "the engine failed on this input: {reason}"
    HELP = "if memory ran out, use smaller `--scales`"
    reason: str


class TooLargeToVerify(Diagnostic):
    """``verify`` generates images of the sizes in the test protocol or in the engine's profiles.
    Those of this bundle have more pixels than ``predict`` ever gives to a net at once, and would
    take many gigabytes.
    """

    code = "VGG530"
    HELP = "name a folder of images with `--images`, or compile for smaller sizes"
    shape: tuple[int, int, int]

    def title(self) -> str:
        images, rows, columns = self.shape
        return f"images of {rows} × {columns} pixels, {images} at once, are too large to generate"


class OtherOrder(Diagnostic):
    """The weights are for the same layers in another order: for instance, two equal layers were
    exchanged in the spec. The net would differ from the one that was trained.

    A weights file contains a digest of its net's layers in order, which is compared.
    """

    code = "VGG531"
    HELP = (
        "use the spec that they were trained with; if the change is intended, import them\nagain"
        " with `vggspec import`"
    )
    net: str
    made_for: str | None

    def title(self) -> str:
        of = f" of net `{self.made_for}`" if self.made_for else ""
        return f"these weights{of} were made for other layers than those of net `{self.net}`"
