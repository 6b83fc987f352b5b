"""Changes of a crop after it is cut: RandAugment, and a rectangle that is erased.

Each is a function of the crop and a random stream, and draws from nothing else.

Axes: H rows, W columns, C channels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from vggspec.base.diagnostic import MissingLibraryError
from vggspec.base.optional import require
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.ir import Color
from vggspec.data.decode import Pixels
from vggspec.training.shapes import drawn_shapes, first_that_fits

Change = Callable[[Pixels, np.random.Generator], Pixels]

#: Of the crop's area, and columns to rows, of what is erased; as in torchvision.
ERASED_AREAS = (0.02, 0.33)
ERASED_ASPECTS = (1 / 3.3, 1 / 0.3)


def changes_of(recipe: TrainRecipe, color: Color) -> dict[str, Change]:
    """The changes that a recipe asks for, by the names of their streams, in their order.

    Raises:
        MissingLibraryError: RandAugment needs torchvision.
    """
    found: dict[str, Change] = {}
    if recipe.randaugment is not None:
        found["randaugment"] = RandAugment(*recipe.randaugment, color)
    if recipe.erase:
        found["erase"] = partial(erase, share=recipe.erase)
    return found


def erase(pixels: Pixels, random: np.random.Generator, share: float) -> Pixels:
    """The crop ``(H, W, C)``, in ``share`` of all cases with a rectangle of random values, drawn
    for each pixel and channel.

    Source: Zhong et al. 2020, section 3; areas and aspects are torchvision's.
    """
    is_erased, top, left = random.random(3)
    shapes = drawn_shapes(random, ERASED_AREAS, ERASED_ASPECTS)
    shape = first_that_fits(shapes, *pixels.shape[:2])
    if is_erased >= share or shape is None:
        return pixels
    rows, columns = shape
    top = int(top * (pixels.shape[0] - rows + 1))
    left = int(left * (pixels.shape[1] - columns + 1))
    found = pixels.copy()
    noise = random.integers(0, 256, (rows, columns, pixels.shape[2]), np.uint8)
    found[top : top + rows, left : left + columns] = noise
    return found


class RandAugment:
    """torchvision's ``RandAugment``, whose draws follow from the stream.

    Source: Cubuk et al. 2020.
    """

    def __init__(self, changes: int, magnitude: int, color: Color) -> None:
        try:
            library: Any = require("torchvision", "`randaugment`").transforms
        except (RuntimeError, OSError) as error:
            message = f"`randaugment` needs a torchvision that fits torch: {error}"
            raise MissingLibraryError(message) from error
        self._change = library.RandAugment(changes, magnitude)
        self._is_reversed = color == "BGR"

    def __call__(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        import torch

        upright = pixels[..., ::-1] if self._is_reversed else pixels
        image = Image.fromarray(upright[..., 0] if pixels.shape[2] == 1 else upright)
        # It draws from PyTorch's own generator, which is left as it was.
        state = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(random.integers(1 << 63)))
            changed = np.asarray(self._change(image)).reshape(pixels.shape)
        finally:
            torch.set_rng_state(state)
        return changed[..., ::-1] if self._is_reversed else changed
