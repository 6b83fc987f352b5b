"""Mistakes in the ``train:`` and ``test:`` sections (VGG40x and VGG41x)."""

from dataclasses import dataclass

from vggspec.catalogue import either
from vggspec.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class UnknownSetting(Diagnostic):
    """The section has no such setting.

    train:  scale, crop, flip, colour-shift, batch, momentum, weight-decay, dropout, rate,
            decay, stop after, start, start from, data
    test:   scale, dense, crops, flip, average

    What is left out takes the paper's value.
    """

    code = "VGG401"
    word: str
    section: str
    known: tuple[str, ...]
    suggestion: str | None = None

    def title(self) -> str:
        return f"`{self.section}:` has no setting `{self.word}`"

    def help(self) -> str | None:
        if self.suggestion:
            return f"did you mean `{self.suggestion}`?"
        return f"it has {either(self.known)}"


@dataclass(frozen=True, kw_only=True)
class MalformedSetting(Diagnostic):
    """The setting is known, but what follows it is not what it wants."""

    code = "VGG402"
    setting: str
    found: str
    expected: str
    example: str

    def title(self) -> str:
        if self.found:
            return f"`{self.setting}` is not followed by `{self.found}`"
        return f"`{self.setting}` is not finished"

    def label(self) -> str:
        return f"expected {self.expected}"

    def help(self) -> str | None:
        return f"write it as in `{self.example}`"


@dataclass(frozen=True, kw_only=True)
class SettingRange(Diagnostic):
    """The value cannot be meant: a dropout of 1 drops everything, a momentum of 1 never ends."""

    code = "VGG403"
    setting: str
    value: str
    expected: str

    def title(self) -> str:
        return f"`{self.setting}` cannot be {self.value}"

    def label(self) -> str:
        return f"expected {self.expected}"


@dataclass(frozen=True, kw_only=True)
class SettingTwice(Diagnostic):
    """A setting is written once in its section."""

    code = "VGG404"
    setting: str

    def title(self) -> str:
        return f"`{self.setting}` is written twice"

    def help(self) -> str | None:
        return "keep one of them"


@dataclass(frozen=True, kw_only=True)
class CropNotInput(Diagnostic):
    """The crop taken from a training image is the input of the net, so both have one size."""

    code = "VGG405"
    crop: int
    input: tuple[int, int]

    def title(self) -> str:
        return f"the crop is {self.crop} × {self.crop}, the input {self.input[0]} × {self.input[1]}"

    def help(self) -> str | None:
        return "leave `crop` out: it is the size of the input"


@dataclass(frozen=True, kw_only=True)
class ScaleTooSmall(Diagnostic):
    """The smallest side of the rescaled image is at least the side of the input: of a smaller one
    no crop can be taken, and no window of the net fits it.
    """

    code = "VGG406"
    scale: int
    input: int
    section: str

    def title(self) -> str:
        return f"a smallest side of {self.scale} holds no window of {self.input}"

    def help(self) -> str | None:
        letter = "S" if self.section == "train" else "Q"
        return f"write a scale ({letter}) of {self.input} or more"


@dataclass(frozen=True, kw_only=True)
class TooFewLayers(Diagnostic):
    """``start from`` takes layers from another net by their places, so both nets have that many.

    start from "A.vgg": first 4 conv, last 3 FC
    """

    code = "VGG407"
    net: str
    kind: str
    wanted: int
    found: int

    def title(self) -> str:
        return f"{self.wanted} {self.kind} layers start from others, net `{self.net}` has {self.found}"

    def help(self) -> str | None:
        return f"write `{self.found}`, or fewer" if self.found else f"leave out the {self.kind} layers"
