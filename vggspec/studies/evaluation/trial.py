"""How fast nets are on this machine, tried out on one image before many follow."""

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
class Trial:
    """What was measured."""

    device: Literal["cpu", "cuda"]
    sizes: tuple[Size, ...]
    """Rows and columns of the input that each net was given: the smallest of its looks."""

    input_s: tuple[float, ...]
    """Seconds that each net took for one of them, of a batch as there will be."""

    preparing_s: float
    """Seconds that one thread took to read, decode and rescale the image."""

    threads: int
    """How many will do that."""

    def image_s(self, macs: Callable[[int, Size], int], image_macs: Sequence[float]) -> float:
        """Seconds an image, where each net takes so many multiply-accumulates for one.

        A net is as fast at all sizes, by ``macs`` of a net's input of a size. A CPU prepares images
        and computes in turn, beside a GPU they are prepared meanwhile.
        """
        computing = sum(
            seconds * of_image / macs(net, size)
            for net, (size, seconds, of_image) in enumerate(
                zip(self.sizes, self.input_s, image_macs, strict=True)
            )
        )
        preparing = self.preparing_s / self.threads
        return computing + preparing if self.device == "cpu" else max(computing, preparing)


def try_out(question: Question, index: int) -> Trial | None:
    """Look at an image with all nets; None where it cannot be read.

    Raises:
        VggspecError: a bundle is damaged or answers what is no number.
        MissingLibraryError: the device was asked for by name and cannot be had.
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
        return Trial(
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
    """For one of a batch of such inputs."""
    pixels = CPU_PIXELS if net.device == "cpu" else batch_pixels or BATCH_PIXELS["cuda"]
    number: int = max(2, pixels // (one.shape[0] * one.shape[1]))
    batch = np.repeat(one[np.newaxis], number, axis=0)
    for _ in net.apply_all([batch]):  # the first one finds memory and chooses kernels
        pass
    start = time.perf_counter()
    for _ in net.apply_all([batch]):
        pass
    return (time.perf_counter() - start) / number
