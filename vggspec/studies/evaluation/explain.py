"""What an evaluation would compute for an image of the median size, and in all."""

from dataclasses import dataclass

from vggspec.base.catalogue.data import TooManyBadImages
from vggspec.base.diagnostic import VggspecError, report
from vggspec.data.left_out import FIRST
from vggspec.runtime.protocol import Size
from vggspec.studies.evaluation.estimate import MacCounter, samples
from vggspec.studies.evaluation.question import Question, Step, plan
from vggspec.studies.evaluation.words import SettingWords, setting_in_words, way_name


@dataclass(frozen=True, slots=True, kw_only=True)
class LookCost:
    """What one look of one net at the image takes."""

    scale: int
    """Q."""

    rescaled: Size
    """Rows and columns of the whole image."""

    net: str
    way: str
    """``dense``, ``central crop`` or ``crops 5×5``."""

    inputs: int
    """Inputs of the net, mirror images among them."""

    size: Size
    """Rows and columns of each."""

    positions: Size | None
    """Rows and columns of the score map; None for crops, which give one answer."""

    macs: int
    """Of all inputs together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What an evaluation would compute."""

    size: Size
    """Rows and columns of the image of the median area."""

    sampled: int
    """How many images the median is of."""

    looks: tuple[LookCost, ...]
    """By scale, net and way."""

    images: int
    """How many there are in all."""

    settings: tuple[SettingWords, ...]
    """The averages of the looks that are reported."""

    is_mirrored: bool
    """Whether a net also sees mirror images."""

    batch_pixels: int | None
    """The largest batch, where it was requested."""

    @property
    def inputs(self) -> int:
        """Inputs of all nets for an image."""
        return sum(look.inputs for look in self.looks)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all nets for an image."""
        return sum(look.macs for look in self.looks)


def explained(question: Question) -> Explanation:
    """What answering a question would compute.

    Raises:
        VggspecError: no image of the sample can be read, or a bundle lacks a part of its spec.
    """
    sample = samples(question)
    if not sample:
        number = len(question.indices)
        first = tuple(question.images.name(index) for index in question.indices[:FIRST].tolist())
        raise VggspecError(report(TooManyBadImages(bad=number, total=number, first=first)))
    size = sample[len(sample) // 2].size
    counter = MacCounter(question)
    steps = sorted(plan(question, size), key=lambda step: _order(question, step))
    return Explanation(
        size=size,
        sampled=len(sample),
        looks=tuple(
            LookCost(
                scale=step.look.scale,
                rescaled=step.rescaled,
                net=question.nets[step.net].name,
                way=way_name(question.nets[step.net], step.look.way),
                inputs=step.inputs,
                size=step.size,
                positions=_positions(question, step),
                macs=counter.of(step),
            )
            for step in steps
        ),
        images=len(question.indices),
        settings=tuple(setting_in_words(question, each) for each in question.settings),
        is_mirrored=any(each.protocol.flip for each in question.nets),
        batch_pixels=question.batch_pixels,
    )


def _order(question: Question, step: Step) -> tuple[int, int, int]:
    scales = list(dict.fromkeys(q for each in question.nets for q in each.protocol.scales))
    return scales.index(step.look.scale), step.net, int(step.look.way == "crops")


def _positions(question: Question, step: Step) -> Size | None:
    if step.look.way != "dense":
        return None
    view = question.nets[step.net].view
    rows, columns = (
        max(0, (side - window) // stride) + 1
        for side, window, stride in zip(step.size, view.window, view.stride, strict=True)
    )
    return rows, columns
