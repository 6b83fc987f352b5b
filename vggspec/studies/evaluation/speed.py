"""How fast nets are on this machine, measured on one image before a run."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vggspec.runtime.net import BundleNet, Pixels
from vggspec.runtime.protocol import Size
from vggspec.studies.evaluation.question import Question
from vggspec.studies.pipeline import BATCH_PIXELS, Applied, Preparing, usual_threads

CPU_PIXELS = 1 << 17  # of a batch: an image and its mirror image at Q = 256, many small inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The speed of a question's nets on one image."""

    device: Literal["cpu", "cuda"]
    sizes: tuple[Size, ...]
    """Rows and columns of the input of each net: the smallest of its looks."""

    input_s: tuple[float, ...]
    """Seconds of each net for one of them, within a batch of the size that the run uses."""

    preparing_s: float
    """Seconds of one thread to read, decode and rescale the image."""

    threads: int
    """Threads that prepare images."""

    def image_s(self, macs: Callable[[int, Size], int], image_macs: Sequence[float]) -> float:
        """Seconds for an image that takes ``image_macs`` multiply-accumulates of each net.

        ``macs(net, size)`` are those of one input. The estimate assumes that a net takes the same
        time for a MAC at all sizes, that a CPU alternates between preparing and computing, and that
        images are prepared while a GPU computes.
        """
        computing = sum(
            seconds * of_image / macs(net, size)
            for net, (size, seconds, of_image) in enumerate(
                zip(self.sizes, self.input_s, image_macs, strict=True)
            )
        )
        preparing = self.preparing_s / self.threads
        return computing + preparing if self.device == "cpu" else max(computing, preparing)


def measure_speed(question: Question, index: int) -> Speed | None:
    """Apply all nets to an image; None if it cannot be read.

    Raises:
        VggspecError: a bundle is damaged or returns NaN or infinity.
        MissingLibraryError: the device was requested by name and is not available.
    """
    with contextlib.ExitStack() as stack:
        nets = [
            stack.enter_context(
                BundleNet(each.path, device=question.device, threads=question.threads)
            )
            for each in question.nets
        ]
        applied = [
            Applied(net, each.protocol) for net, each in zip(nets, question.nets, strict=True)
        ]
        preparing = Preparing(applied, question.images.read, enlarge=question.enlarge)
        if preparing(index).unread is not None:
            return None
        start = time.perf_counter()
        image = preparing(index)
        preparing_s = time.perf_counter() - start
        inputs = [
            min((one.inputs[0] for one in of_net), key=lambda pixels: pixels.size)
            for of_net in image.requests
        ]
        return Speed(
            device=nets[0].device,
            sizes=tuple((one.shape[0], one.shape[1]) for one in inputs),
            input_s=tuple(
                _seconds(net, one, question.batch_pixels)
                for net, one in zip(nets, inputs, strict=True)
            ),
            preparing_s=preparing_s,
            threads=question.threads or usual_threads(),
        )


def _seconds(net: BundleNet, one: Pixels, batch_pixels: int | None) -> float:
    """Seconds of a net for one input, in a batch of copies of it."""
    pixels = CPU_PIXELS if net.device == "cpu" else batch_pixels or BATCH_PIXELS["cuda"]
    number: int = max(2, pixels // (one.shape[0] * one.shape[1]))
    batch = np.repeat(one[np.newaxis], number, axis=0)
    for _ in net.apply_all([batch]):  # the first call allocates memory and chooses kernels
        pass
    start = time.perf_counter()
    for _ in net.apply_all([batch]):
        pass
    return (time.perf_counter() - start) / number
