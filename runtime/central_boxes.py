"""The boxes of a net that localises, in the central window of an image.

Source: Simonyan & Zisserman 2015, appendix A.1 (the class is given, one central crop).

Axes: N inputs, the window and its mirror image, K boxes a window: one for each class, or one for
all.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import RunFailed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.data.box_coding import Boxes, area, clip, decode, mirror
from vggspec.runtime.net import BundleNet
from vggspec.runtime.preprocess import rescalings
from vggspec.runtime.protocol import grid, inputs


def central_boxes(net: BundleNet, image: NDArray[np.uint8], protocol: TestProtocol) -> Boxes:
    """The boxes ``(K, 4)``, averaged over scales and mirror images, cut off at the image's edges.

    Empty boxes are left out of the averages; a class with no other box gets NaN.

    Raises:
        VggspecError: the rescaled image is smaller than the net's window, or too large; or the
            engine fails.
    """
    size = image.shape[0], image.shape[1]
    rows, columns = net.view.window
    central = replace(protocol, dense=False, crops=1)
    found = []
    at_scales = rescalings(image, protocol.scales, protocol.resize)
    for rescaled in at_scales:
        answers = net(np.stack(inputs(rescaled, "crops", net.view, central)))["boxes"]
        if answers[0].size != net.manifest.result.channels:
            what = RunFailed(reason=f"`boxes` came out as {answers.shape} for a single window")
            raise VggspecError(report(what))
        numbers = answers.reshape(len(answers), -1, 4)
        numbers[1::2] = mirror(numbers[1::2])
        top, left = (
            grid(rescaled.shape[axis], net.view.window[axis], 1, protocol.resize)[0]
            for axis in (0, 1)
        )
        # Rescaling rounds each side to whole pixels, so the two factors differ a little.
        down, across = (size[axis] / rescaled.shape[axis] for axis in (0, 1))
        window = np.array([left, top, left + columns, top + rows]) * (across, down, across, down)
        found.append(decode(numbers, window))
    boxes = np.concatenate(found)
    is_box = (area(boxes) > 0)[..., np.newaxis]
    counts = is_box.sum(axis=0)
    sums = np.where(is_box, boxes, 0.0).sum(axis=0)
    means = clip(np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0), size)
    return np.where((area(means) > 0)[:, np.newaxis], means, np.nan)
