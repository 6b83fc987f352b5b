"""How a net is trained and tested: the paper's procedure as values.

Source: Simonyan & Zisserman 2015, sections 3.1 (training), 3.2 (testing) and 4. Every default is
the paper's; ``vggspec.lang.sections`` reads the sections of a spec into these.
"""

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, SupportsIndex

from vggspec.base.bounds import AtMost, Range
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.wording import count

Form = Literal["dense", "crop"]
Average = Literal["scores", "posteriors"]
Rounding = Literal["floor", "ceil"]
Resize = Literal["rounded", "torchvision"]
Initialisation = Literal["normal", "glorot", "he"]
MAX_CROPS = 64  # a side of an image
Schedule = Literal["plateau", "epochs", "cosine"]
Optimiser = Literal["sgd", "adamw"]

ImportedFrom = Literal[
    "torchvision", "timm", "mmpretrain", "keras", "caffe", "tf-slim", "matconvnet"
]
"""The collections of weights that ``vggspec import`` knows, as it records them."""

BETAS = (0.9, 0.999)
"""Those of Kingma & Ba 2015, which PyTorch's AdamW has too."""

MAX_SCALE = 1 << 16
"""The largest side of an input, a crop or a rescaled image, in pixels."""

MAX_SCALES = 64
"""Of a test protocol: each takes as long as a test at one scale. The paper has three."""


def as_scales(scales: "SupportsIndex | Iterable[SupportsIndex]") -> tuple[int, ...]:
    """Each Q in pixels, from one number or several.

    >>> as_scales(256), as_scales([256, 384])
    ((256,), (256, 384))

    Raises:
        TypeError: these are no whole numbers.
        ArgumentError: the list is empty, or an entry is not a size in pixels.
    """
    taken = "scales are whole numbers of pixels, as 256 or (256, 384, 512)"
    try:
        if isinstance(scales, str | bytes | dict):
            raise TypeError
        is_one = not isinstance(scales, Iterable) or getattr(scales, "shape", None) == ()
        each = [scales] if is_one else list(scales)  # type: ignore[arg-type]
        if any(type(one).__name__ in ("bool", "bool_") for one in each):
            raise TypeError
        found = tuple(operator.index(one) for one in each)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{taken}, not {_shortly(scales)}") from None
    if not found or not all(1 <= one <= MAX_SCALE for one in found):
        raise ArgumentError(f"{taken}, from 1 to {MAX_SCALE}, not {_shortly(scales)}")
    return found


def _shortly(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersFrom:
    """Layers that start from the weights of another net (section 3.1)."""

    path: str
    """The spec of the other net, seen from the folder of the spec that names it."""

    first_conv: int | None = None
    """That many conv layers of the other net from its input on; with ``last_fc`` None too, all."""

    last_fc: int | None = None
    """That many FC layers up to the output."""

    but_last_fc: int = 0
    """That many FC layers up to the output do not, where all others do: for other classes."""

    source: ImportedFrom | None = None
    """The collection whose imported weights are taken; None for those of the newest run, else the
    imported ones."""

    def write(self) -> str:
        """As a spec says it, without ``start from``."""
        layers = [
            f"first {self.first_conv} conv" if self.first_conv else "",
            f"last {self.last_fc} FC" if self.last_fc else "",
            "all but last FC" if self.but_last_fc == 1 else "",
            f"all but last {self.but_last_fc} FC" if self.but_last_fc > 1 else "",
        ]
        said = ", ".join(each for each in layers if each)
        net = f'"{self.path}" {self.source}' if self.source else f'"{self.path}"'
        return f"{net}: {said}" if said else net


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPart:
    """The layers whose weights stay as they are, from an epoch on."""

    after: int
    """Epochs that are trained before."""

    up_to: str | None
    """The last of them; it stays as it is, and all layers on the way to it. None for no layer."""

    def write(self) -> str:
        """As a spec says it."""
        what = "free all" if self.up_to is None else f"freeze up to {self.up_to}"
        return f"after {count(self.after, 'epoch')}: {what}" if self.after else what


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """Section 3.1: how the net is trained. What the paper does not do is off by default."""

    scale: tuple[int, int] = (256, 256)
    """S in pixels, the smallest side of the rescaled image: drawn for each image from this range,
    both ends included."""

    area: tuple[float, float] | None = None
    """Crops show a share of the image's area drawn from this range, at a drawn aspect, and are
    rescaled to the input (Szegedy et al. 2015). None for crops of the rescaled image."""

    crop_pad: int = 0
    """Pixels of black around the rescaled image, of which a crop may show a part (He et al. 2016,
    section 4.2)."""

    flip: bool = True
    """Mirror half of the crops."""

    randaugment: tuple[int, int] | None = None
    """How many changes RandAugment makes to a crop, and their magnitude (Cubuk et al. 2020)."""

    erase: float = 0.0
    """The share of the crops in which a rectangle is erased (Zhong et al. 2020)."""

    mixup: float = 0.0
    """Images and labels of a batch are mixed in proportions drawn from the symmetric beta
    distribution of this parameter (Zhang et al. 2018); 0 for none."""

    cutmix: float = 0.0
    """Rectangles, of a share drawn likewise, come from another image of the batch (Yun et al.
    2019); 0 for none. With ``mixup`` each batch has one of the two, drawn at equal odds."""

    colour_shift: float = 0.1
    """Standard deviation of the shift along the colours' principal axes, in units of their
    standard deviations (Krizhevsky et al. 2012, section 4.1); 0 for none."""

    batch: int = 256
    """Images a step, over all devices."""

    optimiser: Optimiser = "sgd"
    """Gradient descent with momentum, or AdamW (Loshchilov & Hutter 2019)."""

    momentum: float = 0.9
    """Of ``sgd``."""

    nesterov: bool = False
    """Nesterov's momentum (Sutskever et al. 2013), of ``sgd``."""

    betas: tuple[float, float] = BETAS
    """How much of their running means ``adamw`` keeps: of gradients and of their squares."""

    weight_decay: float = 5e-4
    """The L2 penalty's multiplier; biases are penalised too, as in the paper. ``adamw`` multiplies
    it by the rate and applies it to the weights."""

    clip_gradients: float | None = None
    """The largest Euclidean norm of all gradients of a step together, to which they are scaled
    down."""

    average_weights: float | None = None
    """How much of the running mean of the weights, which becomes the result, each step keeps."""

    smooth_labels: float = 0.0
    """The part of each label that is spread over all classes (Szegedy et al. 2016)."""

    dropout: float = 0.5
    """The rate on every FC but the last, where the column does not say otherwise."""

    rate: float = 1e-2
    """The learning rate at the start, or after ``warm_up``."""

    warm_up: int = 0
    """Epochs in which the rate grows in equal steps to ``rate`` (Goyal et al. 2017)."""

    schedule: Schedule = "plateau"
    """When the rate falls: when validation accuracy stops improving, after the epochs
    ``decay_at``, or at each step along half a cosine to 0 (Loshchilov & Hutter 2017)."""

    decay: float = 10.0
    """What the rate is divided by, except in ``cosine``."""

    decay_at: tuple[int, ...] = ()
    """Of ``epochs``: after each of them the rate falls."""

    decays: int = 3
    """Of ``plateau``: how often it is, in all."""

    patience: int = 5
    """Of ``plateau``: epochs without a better validation accuracy that count as having stopped."""

    iterations: int | None = 370_000
    """Steps to stop after, or None where epochs are given."""

    epochs: int | None = None
    """Epochs to stop after, or None where iterations are given."""

    no_better: int | None = None
    """Stop earlier once that many epochs in a row had no better validation result."""

    start: Initialisation = "normal"
    """Random initialisation: a zero-mean normal, Glorot & Bengio 2010, or He et al. 2015."""

    start_std: float = 0.1
    """Standard deviation of ``normal``; the paper's variance is 1e-2."""

    start_from: tuple[LayersFrom, ...] = ()
    """Layers that start from other weights; later entries win."""

    frozen: tuple[FrozenPart, ...] = ()
    """Which layers are not trained, each entry from a later epoch on than the one before."""

    freeze_batch_norm: bool = False
    """Batch normalisation keeps its statistics, scales and shifts, and applies them."""

    rates_of: tuple[tuple[str, float], ...] = ()
    """Layers that are trained at a multiple of the rate, with that factor."""

    data: str | None = None
    """Folder of the images, seen from the folder of the spec."""

    validate_on: float | None = None
    """The share of each class that is kept apart for validation, where the data has no ``val``."""

    classes_balanced: bool = False
    """An epoch draws each class equally often."""

    class_weights: Literal["balanced"] | tuple[tuple[str, float], ...] = ()
    """What the loss of an image is multiplied by, by its class: in inverse proportion to how many
    images the class has, 1 on average; or the factors of some, 1 for the others."""

    @property
    def copies_kept(self) -> int:
        """Arrays of the size of the parameters that a training keeps besides these and their
        gradients: velocities, or means and squares; the mean of the weights.
        """
        return (2 if self.optimiser == "adamw" else 1) + (self.average_weights is not None)

    def for_classes(self) -> tuple[str, ...]:
        """The settings in use that are for images of one class each."""
        found = {
            "smooth labels": self.smooth_labels,
            "class weights": self.class_weights,
            "mixup": self.mixup,
            "cutmix": self.cutmix,
            "erase": self.erase,
            "randaugment": self.randaugment,
            "crop pad": self.crop_pad,
            "scale … of area": self.area,
        }
        return tuple(name for name, value in found.items() if value)

    def not_for_maps(self) -> tuple[str, ...]:
        """The settings in use that are for images and not for labels of positions."""
        found = {
            "classes balanced": self.classes_balanced,
            "class weights balanced": self.class_weights == "balanced",
            "mixup": self.mixup,
            "cutmix": self.cutmix,
            "randaugment": self.randaugment,
        }
        return tuple(name for name, value in found.items() if value)

    def decays_in_words(self) -> str:
        """When the rate falls, as a spec says it after ``decay``."""
        if self.schedule == "cosine":
            return "cosine"
        if self.schedule == "epochs":
            return f"{self.decay:g} at {', '.join(map(str, self.decay_at))} epochs"
        patience = count(self.patience, "epoch")
        return f"{self.decay:g} on plateau of {patience}, {count(self.decays, 'time')}"

    def additions_in_words(self) -> dict[str, str]:
        """What is beyond the paper's procedure, settings and their values as a spec has them,
        ``off`` where they are not used.
        """
        is_adamw = self.optimiser == "adamw"
        betas = "" if self.betas == BETAS else ", betas {:g} {:g}".format(*self.betas)
        several = self.randaugment
        better = self.no_better and f"no better for {count(self.no_better, 'epoch')}"
        return {
            "area": area_in_words(self.area) if self.area else "off",
            "crop pad": str(self.crop_pad) if self.crop_pad else "off",
            "randaugment": "{} magnitude {}".format(*several) if several else "off",
            "erase": _number_or_off(self.erase or None),
            "mixup": _number_or_off(self.mixup or None),
            "cutmix": _number_or_off(self.cutmix or None),
            "validate on": percent(self.validate_on) if self.validate_on else "off",
            "classes": "balanced" if self.classes_balanced else "off",
            "class weights": self._class_weights_in_words(),
            "optimiser": f"adamw{betas}" if is_adamw else "sgd",
            "nesterov": "on" if self.nesterov else "off",
            "warm up": count(self.warm_up, "epoch") if self.warm_up else "off",
            "clip gradients": _number_or_off(self.clip_gradients),
            "average weights": _number_or_off(self.average_weights),
            "smooth labels": _number_or_off(self.smooth_labels or None),
            "stop when": better or "off",
            "frozen": ", ".join(part.write() for part in self.frozen) or "off",
            "freeze batch norm": "on" if self.freeze_batch_norm else "off",
            "rate of": ", ".join(f"{name} x {by:g}" for name, by in self.rates_of) or "off",
        }

    def _class_weights_in_words(self) -> str:
        weights = self.class_weights
        if weights == "balanced":
            return "balanced"
        return ", ".join(f"{_quoted(name)} {by:g}" for name, by in weights) or "off"


def percent(share: float) -> str:
    """A share as a spec says it.

    >>> percent(0.125)
    '12.5%'
    """
    return f"{100 * share:g}%"


def area_in_words(area: tuple[float, float]) -> str:
    """The setting of such crops."""
    low, high = map(percent, area)
    return f"scale {low if low == high else f'{low}..{high}'} of area"


def _quoted(name: str) -> str:
    is_plain = not set(' |(),:#"*×') & set(name) and name.casefold() not in ("balanced", "off")
    return name if is_plain else f'"{name}"'


def _number_or_off(value: float | None) -> str:
    return "off" if value is None else f"{value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TestProtocol:
    """Sections 3.2 and 4: how the net is tested."""

    __test__: ClassVar[bool] = False  # it is no test of pytest's, whatever its name

    scales: Annotated[tuple[int, ...], Range(1, MAX_SCALE), AtMost(MAX_SCALES)] = (256,)
    """Q in pixels, the smallest sides of the rescaled image; posteriors are averaged over them."""

    dense: bool = True
    """Apply the net to the whole image, FC layers as convolutions."""

    crops: Annotated[int, Range(1, MAX_CROPS)] | None = None
    """Take crops on a regular grid of this many by this many instead, or as well."""

    flip: bool = True
    """Average with the mirror image."""

    average: Average = "scores"
    """Average class scores over space and then take the soft-max, or the other way round."""

    resize: Resize = "rounded"
    """How long the longer side becomes, and where the central crop begins: to the nearest pixel and
    halves down, or as torchvision's ``Resize`` and ``CenterCrop`` have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Both halves, as the spec writes them and with the rest filled in."""

    train: TrainRecipe = field(default_factory=TrainRecipe)
    test: TestProtocol = field(default_factory=TestProtocol)
