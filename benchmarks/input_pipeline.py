"""The input pipeline of training against the Pillow way, on one core.

A 500 × 375 JPEG becomes one of 32 crops of a normalised batch: rescaled to S in [256, 512], cropped
to 224 × 224, mirrored or not, its colours shifted. Both sides read the same files, make the same
draws and use one thread.
"""

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.Image import Resampling

from benchmarks.measure import Claim, conclude, ratio
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.ir import ImageInput
from vggspec.data.decode import decode
from vggspec.data.folder import FolderSplit
from vggspec.runtime.preprocess import rescaled_size
from vggspec.training.augment import TrainCrops, draw
from vggspec.training.batches import Normalise, collate
from vggspec.training.images import Images
from vggspec.training.order import Ticket

BATCH = 32
ROUNDS = 15
SEED = 0
RECIPE = TrainRecipe(scale=(256, 512))
INPUT = ImageInput(height=224, width=224, std=(58.4, 57.1, 57.4))
MEAN = (123.7, 116.8, 103.9)
AXES = np.diag([50.0, 10.0, 5.0])


def write_photos(folder: Path, size: tuple[int, int] = (500, 375)) -> FolderSplit:
    """scikit-learn's two photos as JPEGs of quality 90, 4:2:0, as cameras and the web have them."""
    from sklearn.datasets import load_sample_images

    names = []
    (folder / "all").mkdir()
    for number, pixels in enumerate(load_sample_images().images):
        image = Image.fromarray(pixels).resize(size, Resampling.LANCZOS)
        names.append(f"{number}.jpg")
        image.save(folder / "all" / names[-1], quality=90)
    return FolderSplit(folder, ("all",), np.zeros(len(names), np.int32), names)


def ours(split: FolderSplit) -> Callable[[], torch.Tensor]:
    """The pipeline of ``vggspec train``, in its own process."""
    images = Images(split, "RGB", RECIPE.scale, are_kept=False)
    crops = TrainCrops(images, INPUT, RECIPE, AXES, SEED)
    normalise = Normalise(INPUT, MEAN)
    return lambda: normalise(collate([crops[ticket] for ticket in tickets(len(split))]))


def peer(split: FolderSplit) -> Callable[[], torch.Tensor]:
    """Each image opened, converted, rescaled as a whole, cropped, and made numbers."""
    mean, std = np.array(MEAN, np.float32), np.array(INPUT.std, np.float32)

    def one(ticket: Ticket) -> NDArray[np.float32]:
        drawn = draw(RECIPE, 3, SEED, ticket)
        with Image.open(split.name(ticket.image)) as file:
            image = file.convert("RGB")
        rows, columns = rescaled_size((image.height, image.width), drawn.scale)
        image = image.resize((columns, rows), Resampling.BILINEAR)
        top, left = int(drawn.top * (rows - 223)), int(drawn.left * (columns - 223))
        image = image.crop((left, top, left + 224, top + 224))
        if drawn.is_mirrored:
            image = ImageOps.mirror(image)
        pixels = np.asarray(image, np.float32)
        shift = (AXES @ drawn.colours).astype(np.float32)
        return ((pixels + shift - mean) / std).transpose(2, 0, 1)

    return lambda: torch.from_numpy(np.stack([one(ticket) for ticket in tickets(len(split))]))


def tickets(number: int) -> list[Ticket]:
    """The turns of a batch."""
    return [Ticket(epoch, epoch % number, epoch) for epoch in range(BATCH)]


def main() -> list[Claim]:
    """At least three times the images a second and core, and the same images."""
    torch.set_num_threads(1)
    gc.freeze()  # as in the processes that decode; on both sides
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        split = write_photos(Path(folder))
        sides = {"vggspec": ours(split), "Pillow": peer(split)}
        found = {name: side() for name, side in sides.items()}
        files = [split.read(ticket.image) for ticket in tickets(len(split))]
        calls = {**sides, "our decoding alone": lambda: [decode(file, "RGB") for file in files]}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                start = time.process_time()  # of this process alone: others may want the core too
                call()
                seconds[name].append(time.process_time() - start)
    levels = (found["vggspec"] - found["Pillow"]).abs() * torch.tensor(INPUT.std)[:, None, None]
    speeds = (f"{name} {BATCH / median(took):.0f} images/s" for name, took in seconds.items())
    return [
        Claim(
            "images a second and core, vggspec / Pillow",
            ratio(seconds["Pillow"], seconds["vggspec"]),
            3,
            at_least=True,
            detail=", ".join(speeds),
        ),
        Claim(
            "largest difference of a value",
            float(levels.max()),
            2.001,
            at_least=False,
            unit=" levels of 255",
            detail=f"on average {float(levels.mean()):.5f}",
        ),
    ]


if __name__ == "__main__":
    sys.exit(conclude(main()))
