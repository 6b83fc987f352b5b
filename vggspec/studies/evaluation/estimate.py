"""What an evaluation costs and how long it takes, estimated before it runs.

The cost is counted from the nets' graphs and the headers of a sample of images. The time follows
from the speed of the nets on one image.
"""

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from vggspec.base.diagnostic import VggspecError
from vggspec.base.quantities import duration, scaled, speed
from vggspec.base.watcher import Watcher
from vggspec.bundle.opening import open_bundle
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.net import lowered_of
from vggspec.compiler.cost import cost
from vggspec.compiler.ir import Network
from vggspec.data.decode import BadImageError, decoded_size
from vggspec.data.matched import spread
from vggspec.runtime.protocol import Size
from vggspec.studies.evaluation.question import Asked, Question, Step, plan
from vggspec.studies.evaluation.speed import measure_speed

SAMPLE = 32  # images whose headers are read


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """An image of the data whose header can be read."""

    size: Size
    """Rows and columns."""

    index: int


class MacCounter:
    """Counts the multiply-accumulates of a question's nets from their graphs.

    Raises:
        VggspecError: a bundle lacks a part of its spec.
    """

    def __init__(self, question: Question) -> None:
        self._networks = [_network(each) for each in question.nets]
        self._known: dict[tuple[int, Size], int] = {}

    def of(self, step: Step) -> int:
        """MACs of a net on all inputs of a look at an image."""
        return step.inputs * self.at(step.net, step.size)

    def at(self, net: int, size: Size) -> int:
        """MACs of a net on one input of a size."""
        if (net, size) not in self._known:
            self._known[net, size] = cost(self._networks[net].at(*size)).macs
        return self._known[net, size]


def samples(question: Question) -> list[Sample]:
    """Some of the images, in ascending order of their area; unreadable ones are skipped."""
    found = []
    for place in spread(len(question.indices), SAMPLE):
        index = int(question.indices[place])
        with contextlib.suppress(BadImageError):
            found.append(Sample(decoded_size(question.images.read(index)), index))
    return sorted(found, key=lambda one: (one.size[0] * one.size[1], one))


def mean_macs(
    question: Question, counter: MacCounter, sample: Sequence[Sample]
) -> list[float] | None:
    """MACs of each net for an image, means over a sample; None if the nets accept none of it."""
    found = []
    for size in (one.size for one in sample):
        of_nets = [0] * len(question.nets)
        with contextlib.suppress(VggspecError):
            for step in plan(question, size):
                of_nets[step.net] += counter.of(step)
            found.append(of_nets)
    return [statistics.fmean(of_net) for of_net in zip(*found, strict=True)] or None


def announce_cost(question: Question, devices: int, watch: Watcher) -> None:
    """Pass on the cost and the expected time; nothing where they cannot be estimated.

    ``devices`` is how many GPUs share the images, or machines without.

    Raises:
        VggspecError: a bundle is damaged or returns NaN or infinity.
        MissingLibraryError: the device was requested by name and is not available.
    """
    try:
        counter = MacCounter(question)
    except VggspecError:
        return  # a bundle without its spec can be evaluated, but not counted
    sample = samples(question)
    macs = mean_macs(question, counter, sample)
    if macs is None:
        return
    images = len(question.indices)
    total = scaled(round(sum(macs) * images), "MAC")
    watch.about("cost", f"{scaled(round(sum(macs)), 'MAC')} an image, {total} in all")
    measured = measure_speed(question, sample[len(sample) // 2].index)
    if measured is None:
        return
    image_s = measured.image_s(counter.at, macs) / devices
    rate = speed(1 / image_s, "images")
    watch.about("time", f"about {duration(image_s * images)}, at {rate} as measured on one image")


def _network(asked: Asked) -> Network:
    return prepare(lowered_of(open_bundle(asked.path)).network, asked.manifest.options)
