"""What an evaluation costs: counted from the graphs and the headers of images, then tried out."""

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vggspec.cli.pacing import speed
from vggspec.cli.watching import duration

if TYPE_CHECKING:
    from vggspec.compiler.ir import Network
    from vggspec.studies.evaluation.question import Asked, Question, Step

Size = tuple[int, int]

SAMPLE = 32  # images whose headers tell how large images are


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """An image of the data whose header can be read."""

    size: Size
    """Rows and columns."""

    index: int


class Cost:
    """Multiply-accumulates of a question's nets, counted from their graphs.

    Raises:
        VggspecError: a bundle lacks a part of its spec.
    """

    def __init__(self, question: "Question") -> None:
        self._networks = [_network(each) for each in question.nets]
        self._known: dict[tuple[int, Size], int] = {}

    def of(self, step: "Step") -> int:
        """MACs of a net on all inputs of a look at an image."""
        return step.inputs * self.at(step.net, step.size)

    def at(self, net: int, size: Size) -> int:
        """MACs of a net on one input of a size."""
        from vggspec.compiler.cost import cost

        if (net, size) not in self._known:
            self._known[net, size] = cost(self._networks[net].at(*size)).macs
        return self._known[net, size]


def samples(question: "Question") -> list[Sample]:
    """Some of the images, the smallest area first."""
    from vggspec.data.decode import BadImageError, decoded_size
    from vggspec.studies.evaluation.question import spread

    found = []
    for place in spread(len(question.indices), SAMPLE):
        index = int(question.indices[place])
        with contextlib.suppress(BadImageError):
            found.append(Sample(decoded_size(question.images.read(index)), index))
    return sorted(found, key=lambda one: (one.size[0] * one.size[1], one))


def mean_macs(question: "Question", cost: Cost, sample: Sequence[Sample]) -> list[float] | None:
    """MACs an image of each net, means over images; None where the nets take none of them."""
    from vggspec.base.diagnostic import VggspecError
    from vggspec.studies.evaluation.question import plan

    found = []
    for size in (one.size for one in sample):
        of_nets = [0] * len(question.nets)
        with contextlib.suppress(VggspecError):
            for step in plan(question, size):
                of_nets[step.net] += cost.of(step)
            found.append(of_nets)
    return [statistics.fmean(of_net) for of_net in zip(*found, strict=True)] or None


def expected(
    question: "Question", cost: Cost, macs: Sequence[float], index: int, gpus: int
) -> str | None:
    """How long all images will take, in words, by a trial on one; None where that cannot be read.

    ``macs`` are those of each net for an image.

    Raises:
        VggspecError: a bundle is damaged or answers what is no number.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """
    from vggspec.studies.evaluation.trial import try_out

    trial = try_out(question, index)
    if trial is None:
        return None
    image_s = trial.image_s(cost.at, macs) / gpus
    time = duration(image_s * len(question.indices))
    return f"about {time}, at {speed(1 / image_s, 'images')} by a trial on one image"


def _network(asked: "Asked") -> "Network":
    from vggspec.bundle.manifest import open_bundle
    from vggspec.compiler.backends.onnx.model import prepare
    from vggspec.compiler.bundles.net import lowered_of, options_of

    return prepare(lowered_of(open_bundle(asked.path)).network, options_of(asked.manifest))
