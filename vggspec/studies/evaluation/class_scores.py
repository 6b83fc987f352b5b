"""Precision, recall and F1 of each class, from counts.

Precision is the share of the images taken for a class that are of it, recall the share of its
images that are taken for it, F1 their harmonic mean. A share of nothing is 0, as in scikit-learn.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vggspec.studies.evaluation.answers import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """The scores of a class in the main setting."""

    label: str
    index: int
    images: int
    """Those of the class."""

    predicted: int
    """Those that were taken for it."""

    right: int
    """Those of the class that were taken for it."""

    @property
    def precision(self) -> float:
        """From 0 to 1."""
        return self.right / max(self.predicted, 1)

    @property
    def recall(self) -> float:
        """From 0 to 1."""
        return self.right / max(self.images, 1)

    @property
    def f1(self) -> float:
        """From 0 to 1: the harmonic mean of precision and recall."""
        return 2 * self.right / max(self.images + self.predicted, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroScores:
    """Means over classes, each counting the same however many images it has."""

    precision: float
    recall: float
    f1: float


def class_scores(tally: Tally) -> tuple[ClassScores, ...]:
    """The scores of the classes that have images, in the order of their numbers."""
    predicted: Counter[int] = Counter()
    for (_, said), number in tally.confusions.items():
        predicted[said] += number
    found = []
    for index, errors in sorted(tally.by_class.items()):
        right = errors.images - errors.top1
        found.append(
            ClassScores(
                label=tally.question.labels[index],
                index=index,
                images=errors.images,
                predicted=right + predicted[index],
                right=right,
            )
        )
    return tuple(found)


def macro(scores: Sequence[ClassScores]) -> MacroScores:
    """The means over these classes."""
    number = max(len(scores), 1)
    return MacroScores(
        precision=sum(one.precision for one in scores) / number,
        recall=sum(one.recall for one in scores) / number,
        f1=sum(one.f1 for one in scores) / number,
    )
