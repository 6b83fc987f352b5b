"""Mistakes in the ``train:`` and ``test:`` sections (VGG40x)."""

import shlex

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import all_of, count, either


class UnknownSetting(Diagnostic):
    """The section has no such setting.

    A setting that is left out has the paper's value. The settings are

        train:  scale, crop, flip, randaugment, erase, mixup, cutmix,
                colour-shift, batch, optimiser, momentum, nesterov, weight-decay,
                clip gradients, average weights, smooth labels, dropout, rate,
                rate of, warm up, decay, stop after, stop when, start, start from,
                freeze up to, freeze batch norm, after, data, validate on,
                classes, class weights
        test:   scale, dense, crops, flip, average

    Names of other tools are recognised, but not accepted:

        lr 0.01       wrong
        rate 0.01     right
    """

    code = "VGG401"
    TITLE = "`{section}:` has no setting `{word}`"
    word: str
    section: str
    known: tuple[str, ...]
    suggestion: str | None = None
    """The whole setting to write instead."""

    because: str | None = None

    def help(self) -> str | None:
        if self.because:
            return self.because
        if self.suggestion:
            return f"write `{self.suggestion}`"
        return f"it has {either(self.known)}"


class MalformedSetting(Diagnostic):
    """The value of a setting is malformed.

    The message shows the form.

        scale 256-512      wrong
        scale 256..512     right
    """

    code = "VGG402"
    setting: str
    found: str
    expected: str
    example: str
    is_guess: bool = False
    """Whether ``example`` is probably what was meant."""

    def title(self) -> str:
        if not self.found:
            return f"`{self.setting}` is incomplete"
        if not self.expected:
            return f"`{self.found}` is more than `{self.setting}` takes"
        return f"`{self.setting}` is not followed by `{self.found}`"

    def label(self) -> str:
        return f"expected {self.expected or 'the end of the line'}"

    def help(self) -> str | None:
        return f"write `{self.example}`" if self.is_guess else f"write it as in `{self.example}`"


class SettingRange(Diagnostic):
    """The value of a setting is out of range.

    A dropout of 1 drops everything, a momentum of 1 never forgets. The message shows the range.

        decay 0.1     wrong: the rate is divided by it
        decay 10      right
    """

    code = "VGG403"
    TITLE = "`{setting}` cannot be {value}"
    LABEL = "expected {expected}"
    setting: str
    value: str
    expected: str


class SettingTwice(Diagnostic):
    """A setting is written twice in its section.

    Only ``start from``, ``rate of`` and ``after`` may be: each line names other layers or epochs.
    ``stop after`` and ``stop when`` are two settings.

        batch 256
        batch 128     wrong
    """

    code = "VGG404"
    TITLE = "`{setting}` is written twice"
    LABEL = "the second one"
    HELP = "keep one of them"
    setting: str


class CropNotInput(Diagnostic):
    """The crop of a training image does not have the size of the net's input.

    The crop is the input, so it need not be written.

        input 224x224 RGB
        FC-10
        train:
          crop 256         wrong
    """

    code = "VGG405"
    crop: int
    input: tuple[int, int]
    pad: int = 0

    def help(self) -> str | None:
        if self.pad:
            return f"write `crop pad {self.pad}`: the crop has the size of the input"
        return "leave `crop` out: it has the size of the input"

    def title(self) -> str:
        return f"the crop is {self.crop} × {self.crop}, the input {self.input[0]} × {self.input[1]}"


class ScaleTooSmall(Diagnostic):
    """The rescaled image is smaller than the input of the net.

    Its smallest side must be at least that of the input: a smaller image contains no crop, and no
    window of the net.

        input 224x224 RGB
        FC-10
        train:
          scale 200        wrong
          scale 256        right
    """

    code = "VGG406"
    TITLE = "an image of {scale} pixels contains no window of {input}"
    LABEL = "the smallest side of the input is {input}"
    scale: int
    input: int
    section: str

    def help(self) -> str | None:
        letter = "S" if self.section == "train" else "Q"
        return f"write a scale ({letter}) of {self.input} or more"


class TooFewLayers(Diagnostic):
    """``start from`` names more layers of one kind than a net has.

    Layers are matched by position, so both nets must have that many.

        train:
          start from "A.vgg": first 4 conv, last 3 FC
    """

    code = "VGG407"
    net: str
    kind: str
    requested: int
    found: int

    def title(self) -> str:
        named = count(self.requested, f"{self.kind} layer")
        return f"`start from` names {named}, net `{self.net}` has {self.found}"

    def help(self) -> str | None:
        return f"take {self.found} at most" if self.found else f"leave out the {self.kind} layers"


class NotStartedFrom(Diagnostic):
    """``vggspec train --weights FILE`` names the weights of a net that the recipe starts from, in
    place of those of its newest run. Here no ``start from`` names that net, or two files are
    weights of the same net.

        start from "A.vgg": first 4 conv        in the spec of E
        vggspec train E.vgg --weights runs/A/2026-11-21-1/best.safetensors
    """

    code = "VGG408"
    TITLE = (
        "the net starts from {nets:either}, once each; these weights are of `{net}`",
        "no `start from` takes these weights",
    )
    HELP = "leave out `--weights`, or name those of a net that it starts from"
    net: str
    nets: tuple[str, ...]
    """The nets that it starts from."""


class ConflictingSettings(Diagnostic):
    """Two settings of a recipe exclude each other.

    Momentum, and Nesterov's form of it, belong to gradient descent; AdamW has ``betas``. Nesterov's
    form needs a momentum. The rate cannot grow for as long as the training lasts. A crop is either
    a share of the image's area or a part of the padded image. Classes are balanced by how often
    they are drawn or by the weight of their loss.

        optimiser adamw
        momentum 0.9                          wrong
        optimiser adamw, betas 0.9 0.999      right
    """

    code = "VGG409"
    TITLE = "{why}"
    HELP = "{way}"
    why: str
    way: str


class UnknownTrainedLayer(Diagnostic):
    """``freeze up to`` and ``rate of`` name layers of the net.

    ``vggspec show`` lists them:

        freeze up to pool6     wrong, where there are five
        freeze up to pool5     right
    """

    code = "VGG410"
    TITLE = "the net has no layer `{layer}`"
    HELP = ("did you mean `{like}`?", "`vggspec show SPEC` lists them")
    layer: str
    like: str | None


class NothingToTrain(Diagnostic):
    """No weight layer is left to train, or one that a ``rate of`` names is frozen all the time.

    Leave a weight layer free:

        freeze up to fc8       wrong, where it is the last layer
        freeze up to pool5     right
    """

    code = "VGG411"
    TITLE = "{why}"
    HELP = "{way}"
    why: str
    way: str


class UnknownClass(Diagnostic):
    """``class weights`` names classes of the data: its class folders, or the names in a
    ``classes.txt``. Upper and lower case count.

        class weights cat 2      wrong, where the folder is `cats`
        class weights cats 2     right
    """

    code = "VGG412"
    TITLE = "the data has no class `{name}`"
    name: str
    like: str | None
    known: tuple[str, ...]

    def help(self) -> str | None:
        if self.like:
            return f"did you mean `{self.like}`?"
        first = ", ".join(f"`{name}`" for name in self.known[:6])
        return f"it has {first}{' and more' if len(self.known) > 6 else ''}"


class NotImportedFrom(Diagnostic):
    """``start from "D" torchvision`` takes weights that ``vggspec import`` wrote beside the spec or
    into the working folder, and that it knows to be of torchvision, whatever runs there are. It
    knows torchvision, timm, mmpretrain, Keras, Caffe, TF-Slim and MatConvNet.

        vggspec import D vgg16-397923af.pth
        vggspec train birds.vgg        start from "D" torchvision: all but last FC
    """

    code = "VGG414"
    TITLE = "no weights of {source} are imported for net `{net}`"
    net: str
    source: str
    spec: str
    looked: tuple[str, ...]
    found: tuple[str, ...] = ()
    """What the files there are instead."""

    def help(self) -> str | None:
        instead = f"; {'; '.join(self.found)}" if self.found else ""
        return (
            f"looked for {all_of(self.looked)}{instead}\n"
            f"vggspec import {shlex.quote(self.spec)} CHECKPOINT"
        )
