"""The answers to a question: for each image, and counted over all.

The answer for an image depends on that image alone, and all counts are integers. So neither the
order of the images nor batches, threads and processes change a digit.

Source: Simonyan & Zisserman 2015, section 4: top-1 and top-5 error, averages of posteriors.

Axes: K classes; the averages are float64.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.short_repr import short_repr
from vggspec.bundle.manifest import OutputKind
from vggspec.data.left_out import LeftOut
from vggspec.runtime.net import BundleNet
from vggspec.studies.evaluation.question import Question, Setting
from vggspec.studies.pipeline import Applied, Sight, see
from vggspec.studies.tasks.task import identified


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer for an image."""

    index: int
    ranks: tuple[int, ...] = ()
    """How many classes come before the true one, for each setting; equally likely classes are in
    the order of their numbers."""

    top: tuple[tuple[int, float], ...] = ()
    """The five likeliest classes of the main setting and their posteriors, best first."""

    truth: float = 0.0
    """The true class's posterior in the main setting."""

    unread: str | None = None
    """Why the image could not be used, if it could not."""


@dataclass(frozen=True, slots=True)
class Answering:
    """A question as a ``Task``."""

    question: Question

    @property
    def indices(self) -> NDArray[np.int64]:
        """The images of the question, in ascending order."""
        return self.question.indices

    @property
    def threads(self) -> int | None:
        """CPU threads of a process; None for all cores."""
        return self.question.threads

    def with_threads(self, threads: int) -> "Answering":
        """The same with that many threads for each process."""
        return Answering(replace(self.question, threads=threads))

    def digest(self) -> str:
        """SHA-256 of everything that changes an answer, in hexadecimal."""
        return self.question.digest()

    def identity(self) -> dict[str, str]:
        """What must be the same on all machines that share the images."""
        asked = self.question
        facts = {
            "nets": [each.manifest.to_json() for each in asked.nets],
            "options": [
                [asdict(each.protocol) for each in asked.nets],
                [asdict(each) for each in asked.settings],
                asked.enlarge,
                asked.device,
            ],
            "classes": [asked.classes, asked.images.labels.tolist()],
        }
        return identified(facts, asked.images, asked.folder)

    def results(self, indices: Iterable[int]) -> Generator[Result, None, None]:
        """As ``answer``."""
        return answer(self.question, indices)

    def as_data(self, result: Result) -> dict[str, Any]:
        """A result for JSON."""
        return asdict(result)

    def from_data(self, data: Fields) -> Result:
        """The result that ``as_data`` returned as JSON.

        Raises:
            BadFieldError: it is not a result, or of another question.
        """
        unread = None if data.is_null("unread") else data.text("unread")
        num_ranks, num_top = (
            (len(self.question.settings), self.question.top) if unread is None else (0, 0)
        )
        classes = self.question.nets[0].manifest.result.channels
        ranks = data.integers("ranks", 0, classes - 1)
        pairs = [Fields({"class": i, "value": x}, "top.") for i, x in data.lists("top", 2)]
        top = tuple(
            (one.integer("class", 0, classes - 1), one.number("value", -math.inf, math.inf))
            for one in pairs
        )
        if (len(ranks), len(top)) != (num_ranks, num_top) or len(dict(top)) < len(top):
            raise BadFieldError("it has other settings or classes")
        return Result(
            index=data.integer("index", 0),
            ranks=ranks,
            top=top,
            truth=data.number("truth", -math.inf, math.inf),
            unread=unread,
        )


def answer(question: Question, indices: Iterable[int]) -> Generator[Result, None, None]:
    """The answers for some of the images, in the order of ``indices``.

    Raises:
        VggspecError: a bundle is damaged or returns NaN or infinity.
        MissingLibraryError: the device was requested by name and is not available.
    """
    with contextlib.ExitStack() as stack:
        applied = [
            Applied(
                stack.enter_context(
                    BundleNet(each.path, device=question.device, threads=question.threads)
                ),
                each.protocol,
            )
            for each in question.nets
        ]
        seen = see(
            applied,
            question.images.read,
            indices,
            enlarge=question.enlarge,
            threads=question.threads,
            batch_pixels=question.batch_pixels,
        )
        for one in stack.enter_context(contextlib.closing(seen)):
            if one.unread is not None:
                yield Result(index=one.index, unread=one.unread)
            else:
                yield judge(question, one.index, one.sights)


def judge(question: Question, index: int, sights: Sequence[Sight]) -> Result:
    """The answer for an image from what the nets return for it."""
    kinds = [each.manifest.result.kind for each in question.nets]
    truth = question.truth(index)
    means = [one.outputs[kinds[one.net]].mean(axis=0) for one in sights]
    found = [average(setting, sights, means) for setting in question.settings]
    main = found[-1]
    best = np.argsort(-main, kind="stable")[: question.top]
    return Result(
        index=index,
        ranks=tuple(rank(posteriors, truth) for posteriors in found),
        top=tuple((int(i), float(main[i])) for i in best),
        truth=float(main[truth]),
    )


def average(
    setting: Setting, sights: Sequence[Sight], means: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Posteriors ``(K,)`` of a setting, from each sight's mean over its inputs, ``(K,)``."""
    of_nets = [
        np.mean(
            [
                mean
                for sight, mean in zip(sights, means, strict=True)
                if sight.net == part.net and part.takes(sight.look)
            ],
            axis=0,
        )
        for part in setting.parts
    ]
    result: NDArray[np.float64] = np.mean(of_nets, axis=0)
    return result


def rank(posteriors: NDArray[np.float64], truth: int) -> int:
    """How many classes come before ``truth``: likelier ones, and equally likely ones with a smaller
    number.

    >>> [rank(np.array([0.25, 0.5, 0.25]), truth) for truth in range(3)]
    [1, 0, 2]
    """
    mine = posteriors[truth]
    return int((posteriors > mine).sum() + (posteriors[:truth] == mine).sum())


@dataclass(slots=True)
class Errors:
    """Mistakes of a setting."""

    images: int = 0
    top1: int = 0
    top5: int = 0

    @property
    def top1_error(self) -> float:
        """From 0 to 1; 0 of no images."""
        return self.top1 / max(self.images, 1)

    @property
    def top5_error(self) -> float:
        """From 0 to 1: the true class is not among the five likeliest."""
        return self.top5 / max(self.images, 1)

    def add(self, rank: int, top: int) -> None:
        """Count an image."""
        self.images += 1
        self.top1 += rank > 0
        self.top5 += rank >= top


def standard_error(share: float, images: int) -> float:
    """The standard error of a share from 0 to 1 that was measured on ``images`` images."""
    return math.sqrt(share * (1 - share) / max(images, 1))


@short_repr
@dataclass(slots=True)
class Tally:
    """Counts over all images; their order changes nothing.

    Classes are the net's, and counts by class are those of the main setting.
    """

    question: Question
    settings: list[Errors] = field(init=False)
    by_class: dict[int, Errors] = field(init=False)
    confusions: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Images by their true class and the class that the nets chose instead."""

    left_out: dict[int, str] = field(default_factory=dict)
    """Images that could not be read, and why."""

    _budget: LeftOut = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._budget = LeftOut(len(self.question.indices))
        self.settings = [Errors() for _ in self.question.settings]
        self.by_class = {}

    @property
    def images(self) -> int:
        """How many images were evaluated."""
        return self.settings[-1].images

    @property
    def done(self) -> int:
        """How many images were evaluated or left out."""
        return self.images + len(self.left_out)

    def add(self, result: Result) -> None:
        """Count an image.

        Raises:
            VggspecError: too many images cannot be read.
        """
        question = self.question
        if result.unread is not None:
            self.left_out[result.index] = result.unread
            self._budget.add(question.images.name(result.index), result.unread)
            return
        truth = question.truth(result.index)
        for errors, place in zip(self.settings, result.ranks, strict=True):
            errors.add(place, question.top)
        self.by_class.setdefault(truth, Errors()).add(result.ranks[-1], question.top)
        said = result.top[0][0]
        if said != truth:
            self.confusions[truth, said] += 1

    def left_out_names(self) -> list[str]:
        """The images that could not be read, each with the reason, in the order of the data."""
        name = self.question.images.name
        return [f"{name(index)}: {why}" for index, why in sorted(self.left_out.items())]


def kind_of(question: Question) -> OutputKind:
    """Whether the numbers of a result are posteriors or, for a net without soft-max, scores."""
    return question.nets[0].manifest.result.kind
