"""Mistakes about weights files and bundles (VGG5xx)."""

import shlex
from dataclasses import dataclass
from typing import Literal

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count

MOST_NAMES = 6

REMEDY_OF_CHANGED_WEIGHTS = (
    "copy the file again from where it came, or train anew; where the change was meant, write it\n"
    "anew by `vggspec import SPEC FILE -o NEW.safetensors`, which states the new digest"
)


@dataclass(frozen=True, kw_only=True)
class NoWeights(Diagnostic):
    """Compiling wants trained weights. They are named by ``--weights``; else they are the best of
    the newest run of the net under ``runs/<net>/``, else ``<net>.safetensors`` beside the spec, or
    in the folder where you are.

        vggspec train specs/D.vgg --data DIR            train them
        vggspec import specs/D.vgg vgg16.pth            take those of another tool
        vggspec init specs/D.vgg                        random ones, to try things out
    """

    code = "VGG501"
    net: str
    spec: str
    looked: tuple[str, ...]

    def title(self) -> str:
        return f"no weights for net `{self.net}`"

    def help(self) -> str | None:
        spec = shlex.quote(self.spec)
        return (
            f"looked for {' and '.join(self.looked)}; get some by one of\n"
            f"vggspec train {spec} --data DIR\n"
            f"vggspec import {spec} CHECKPOINT\n"
            f"vggspec init {spec}  # random"
        )


@dataclass(frozen=True, kw_only=True)
class BadWeightsFile(Diagnostic):
    """The file is not a whole safetensors file: it is something else, it was cut off while it was
    copied, or its header contradicts its size. Nothing of it is used.
    """

    code = "VGG502"
    reason: str

    def title(self) -> str:
        return f"this is not a usable weights file: {self.reason}"

    def help(self) -> str | None:
        return (
            "copy it again, or make it anew; `vggspec import SPEC FILE` makes one of another tool's"
            " checkpoint"
        )


@dataclass(frozen=True, kw_only=True)
class OtherWeights(Diagnostic):
    """The tensors of the file are not those of the net: the file belongs to another net, or to
    another version of this one.
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


@dataclass(frozen=True, kw_only=True)
class WrongNumberType(Diagnostic):
    """Weights are 32-bit floating point numbers."""

    code = "VGG504"
    tensor: str
    dtype: str

    def title(self) -> str:
        return f"`{self.tensor}` holds numbers of type {self.dtype}, not F32"

    def help(self) -> str | None:
        return "`vggspec import SPEC FILE -o NEW.safetensors` makes it float32"


@dataclass(frozen=True, kw_only=True)
class UnknownCheckpoint(Diagnostic):
    """The checkpoint's tensors cannot be matched with the layers of the net, in their order and by
    their shapes.
    """

    code = "VGG505"
    reason: str

    def title(self) -> str:
        return f"this checkpoint cannot be read into the net: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class NotFiniteWeights(Diagnostic):
    """Weights are finite numbers. NaN and infinities come of a training run that diverged, of a
    conversion to half precision, or of a damaged file. A class whose bias is -inf would never be
    found, and no score of it could be compared, so such weights are refused wherever they are read.
    What the net does not use does not count.
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
        return "\n".join([*lines, "take the weights of a run that did not diverge"])


@dataclass(frozen=True, kw_only=True)
class ChangedWeights(Diagnostic):
    """A weights file states the SHA-256 of its numbers, and another of its header. One of them is
    not that of what the file holds: another program edited the file and kept what it states, or
    the disk or a copy damaged it. vggspec cannot tell the one from the other.

    Where the change was meant, write the file anew, which states the digests of what it holds:

        vggspec import specs/D.vgg edited.safetensors -o D.safetensors
    """

    code = "VGG507"
    part: Literal["numbers", "header"]

    def title(self) -> str:
        have = "numbers have" if self.part == "numbers" else "header has"
        return f"the file was changed after it was written: its {have} another SHA-256 than stated"

    def help(self) -> str | None:
        return REMEDY_OF_CHANGED_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class NoSuchFile(Diagnostic):
    """A file named on the command line is not there, or cannot be opened."""

    code = "VGG510"
    kind: str
    reason: str

    def title(self) -> str:
        return f"the {self.kind} cannot be read: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class CannotWrite(Diagnostic):
    """The result could not be written; the system says why. Whatever stood at its place before is
    still there, and nothing half-written is left.
    """

    code = "VGG511"
    reason: str

    def title(self) -> str:
        return f"this cannot be written: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class InTheWay(Diagnostic):
    """Something else stands where a bundle, a run, the demo or a file is to be written, and vggspec
    does not delete what it did not make.
    """

    code = "VGG512"
    what: str

    def title(self) -> str:
        return f"{self.what} stands here already"

    def help(self) -> str | None:
        return "give another place after `-o`, or move it away"


@dataclass(frozen=True, kw_only=True)
class NotABundle(Diagnostic):
    """A bundle is the folder that ``vggspec compile`` writes; its ``manifest.json`` says what is in
    it.
    """

    code = "VGG521"
    is_there: bool = True
    is_folder: bool = True
    bundle: str | None = None
    """The bundle that this is a part of."""

    left_behind: str | None = None
    """The bundle that stood here when the command that was to replace it was killed."""

    def title(self) -> str:
        if not self.is_there:
            return "there is no such bundle"
        if not self.is_folder:
            return "this is a file, and a bundle is a folder"
        return "this is not a bundle: it has no manifest.json"

    def help(self) -> str | None:
        if self.left_behind is not None:
            return f"it was to be replaced; the one before is `{self.left_behind}`: rename it"
        if self.bundle is not None:
            return f"it is a part of the bundle `{self.bundle}`"
        return "make one by `vggspec compile SPEC --weights FILE -o BUNDLE`"


@dataclass(frozen=True, kw_only=True)
class BadManifest(Diagnostic):
    """The bundle's ``manifest.json`` is damaged, or was changed by hand."""

    code = "VGG522"
    reason: str

    def title(self) -> str:
        return f"the manifest is damaged: {self.reason}"

    def help(self) -> str | None:
        return "compile the bundle again"


@dataclass(frozen=True, kw_only=True)
class NewerBundle(Diagnostic):
    """The bundle was written by a newer vggspec, in a format that this one does not know."""

    code = "VGG523"
    format: int
    known: int

    def title(self) -> str:
        return f"the bundle has format {self.format}, this vggspec reads up to {self.known}"

    def help(self) -> str | None:
        return "upgrade vggspec, or compile the bundle again"


@dataclass(frozen=True, kw_only=True)
class ChangedFile(Diagnostic):
    """A file of the bundle is not the one that was written: it is missing, it was cut off, or it
    was changed. Weights that a bundle links to are changed in the bundle too when another program
    edits the file in its place; see ``vggspec explain VGG507`` for what to do with them.
    """

    code = "VGG524"
    file: str
    reason: str
    contradicts_itself: bool = False
    """Whether it is a weights file whose numbers are not those that its own header tells of."""

    def title(self) -> str:
        return f"`{self.file}` {self.reason}"

    def help(self) -> str | None:
        if not self.contradicts_itself:
            return "compile the bundle again"
        return (
            "its own header states other numbers, so compiling with it would fail too:\n"
            f"{REMEDY_OF_CHANGED_WEIGHTS};\nthen compile the bundle again"
        )


@dataclass(frozen=True, kw_only=True)
class PathIsNoText(Diagnostic):
    """A name in the path has bytes that are no UTF-8 text. The library that opens the file takes no
    other names, and this system has no other one for the file.
    """

    code = "VGG537"

    def title(self) -> str:
        return "the path is not UTF-8 text"

    def help(self) -> str | None:
        return "rename the folder or the file"


@dataclass(frozen=True, kw_only=True)
class ReplacedBundle(Diagnostic):
    """Another command replaced the bundle after this one had read its manifest. Nothing is computed
    with parts of both.
    """

    code = "VGG536"

    def title(self) -> str:
        return "the bundle was replaced while it was read"

    def help(self) -> str | None:
        return "run the command again"


@dataclass(frozen=True, kw_only=True)
class NoMapInBundle(Diagnostic):
    """A heat map is drawn from the class score map, which the bundle gives only when it was
    compiled with ``--map``.
    """

    code = "VGG525"

    def title(self) -> str:
        return "the bundle gives no class score map to draw a heat map from"

    def help(self) -> str | None:
        return "compile it with `--map`"


@dataclass(frozen=True, kw_only=True)
class NoClasses(Diagnostic):
    """The bundle's net does not end in class scores, so it cannot classify."""

    code = "VGG526"
    output: str

    def title(self) -> str:
        return f"the net gives {self.output}, not classes"

    def help(self) -> str | None:
        return "ask it by `vggspec localise`" if self.output == "boxes" else None


@dataclass(frozen=True, kw_only=True)
class EngineFailed(Diagnostic):
    """The engine that runs the bundle refused it, and said why."""

    code = "VGG527"
    reason: str

    def title(self) -> str:
        return f"the bundle cannot be loaded: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class NotFinite(Diagnostic):
    """The net gave infinities or NaN, of which no class is the largest. Weights that diverged in
    training do this, and so does half precision where a sum passes 65504.
    """

    code = "VGG528"
    output: str

    def title(self) -> str:
        return f"the net's {self.output} are not finite numbers"

    def help(self) -> str | None:
        return "compile it from weights of a run that did not diverge, in fp32"


@dataclass(frozen=True, kw_only=True)
class RunFailed(Diagnostic):
    """The engine gave up on this image, and said why. Most often memory ran out: a dense net takes
    it in proportion to the rescaled image.
    """

    code = "VGG529"
    reason: str

    def title(self) -> str:
        return f"the engine failed on this input: {self.reason}"

    def help(self) -> str | None:
        return "if memory ran out, give a smaller `--scales`"


@dataclass(frozen=True, kw_only=True)
class TooLargeToVerify(Diagnostic):
    """``verify`` makes images up at the sizes that the test protocol, or the engine's profiles, ask
    for. Those of this bundle have more pixels than ``predict`` ever gives to a net at once, and
    would take many gigabytes.
    """

    code = "VGG530"
    shape: tuple[int, int, int]

    def title(self) -> str:
        images, rows, columns = self.shape
        return f"images of {rows} × {columns} pixels, {images} at once, are too large to be made up"

    def help(self) -> str | None:
        return "give a folder of pictures after `--images`, or compile for smaller sizes"


@dataclass(frozen=True, kw_only=True)
class OtherOrder(Diagnostic):
    """The weights were made for the same layers in another order: two equal ones were exchanged in
    the spec, for instance. The net would compute something else than the one that was trained.

    A weights file holds a digest of its net's layers in their order, which is compared.
    """

    code = "VGG531"
    net: str
    made_for: str | None

    def title(self) -> str:
        of = f" of net `{self.made_for}`" if self.made_for else ""
        return f"these weights{of} were made for other layers than those of net `{self.net}`"

    def help(self) -> str | None:
        return (
            "give the spec that they were trained with; where the change is meant, read them in\n"
            "anew by `vggspec import`"
        )
