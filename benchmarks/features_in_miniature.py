"""Appendix B of the paper asked of small nets: are features of use for classes never seen?

Trains nets A and B of ``miniature.vgg`` on the pictures of crosses and rings that ``shapes.py``
draws, takes their features of squares and triangles, and fits a linear SVM on these: beside the
pixels themselves, and beside the same nets with random weights.

    python -m benchmarks.features_in_miniature

Source: Simonyan & Zisserman 2015, appendix B.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import shapes
from benchmarks.laboratory import Effort, Laboratory, asked, at_once, line, percent
from benchmarks.weights import OUT
from vggspec.data.classed import Classed, open_classed
from vggspec.data.decode import decode
from vggspec.runtime.preprocess import rescalings
from vggspec.studies.features.file import writing

MINIATURE = Path(__file__).with_name("miniature.vgg")
SEEN = ("cross", "ring")  # shapes whose six classes the nets are trained on

USUAL = Effort(epochs=30)
QUICK = Effort(epochs=1, seeds=1, train=10, val=5)
FIT, TEST = 100, 75  # pictures a class for the SVM
Q = 37  # the scale that the nets are trained at
SEVERAL = "32,37,42"
PIXELS = 32  # the sides of a picture whose pixels are the descriptor


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table: nets, and how their features are put together."""

    name: str
    nets: tuple[str, ...]
    options: tuple[str, ...] = ("--scales", str(Q))
    is_random: bool = False


SETTINGS = (
    Setting("A, random weights", ("A",), is_random=True),
    Setting("B, random weights", ("B",), is_random=True),
    Setting("A", ("A",)),
    Setting("B", ("B",)),
    Setting("B, no mirror image", ("B",), ("--scales", str(Q), "--no-flip")),
    Setting("B, three scales averaged", ("B",), ("--scales", SEVERAL)),
    Setting("B, three scales stacked", ("B",), ("--scales", SEVERAL, "--combine", "stack")),
    Setting("A and B stacked", ("A", "B")),
    Setting(
        "A and B, three scales, all stacked",
        ("A", "B"),
        ("--scales", SEVERAL, "--combine", "stack"),
    ),
    Setting("B up to conv4_2", ("B",), ("--scales", str(Q), "--layer", "conv4_2")),
)


class Study(Laboratory):
    """Pictures, trainings and results."""

    def __init__(self, root: Path, effort: Effort) -> None:
        super().__init__(root)
        self._effort = effort

    def prepare(self) -> None:
        """Draw the pictures; write the nets with an output for each of the six classes."""
        (self.root / "six.vgg").write_text(MINIATURE.read_text().replace("FC-12", "FC-6 "))
        done = self.root / "svm"
        if done.exists():
            return
        drawn = self.root / "drawn"
        shapes.write_folder(drawn, train=self._effort.train, val=self._effort.val)
        kept = {"train": FIT, "val": TEST}
        for split, number in kept.items():
            for folder in sorted((drawn / split).iterdir()):
                task = "net" if folder.name.split("-")[0] in SEEN else "svm.part"
                target = self.root / task / split / folder.name
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(target)
                if task != "net":
                    for picture in sorted(target.iterdir())[number:]:
                        picture.unlink()
        (self.root / "svm.part").rename(done)

    def see(self, setting: Setting, seed: int) -> dict[str, float]:
        """What an SVM makes of a setting's features."""
        bundles = [self.bundle(net, seed, is_random=setting.is_random) for net in setting.nets]
        file = f"{setting.name}-{seed}.safetensors"
        if not (self.root / file).exists():
            options = ("--data", "svm", "--device", "cpu", "--threads", "1", *setting.options)
            self.vggspec("features", *bundles, *options, "-o", file)
        return self._svm(file)

    def see_pixels(self) -> dict[str, float]:
        """What an SVM makes of the pixels."""
        file = "pixels.safetensors"
        if not (self.root / file).exists():
            write_pixels(self.root / file, open_classed(self.root / "svm"))
        return self._svm(file)

    def bundle(self, net: str, seed: int, *, is_random: bool = False) -> str:
        """A net, trained unless it is to have random weights, and compiled."""
        name = f"{net}-{'random' if is_random else 'trained'}-{seed}"
        if not (self.root / name).exists():
            if is_random:
                weights = f"{name}.safetensors"
                if not (self.root / weights).exists():
                    self.vggspec("init", f"six.vgg:{net}", "--seed", str(seed), "-o", weights)
            else:
                run, data = self.root / f"run-{net}-{seed}", self.root / "net"
                weights = str(self.trained(f"six.vgg:{net}", run, data, seed, [self._effort.stop]))
            self.vggspec("compile", f"six.vgg:{net}", "--weights", weights, "-o", name)
        return name

    def _svm(self, file: str) -> dict[str, float]:
        found = json.loads(self.vggspec("svm", file, "--json"))
        return {
            "numbers": found["fit"]["numbers"],
            "c": found["c"],
            "accuracy": found["test"]["accuracy"],
            "precision": found["test"]["mean_average_precision"],
        }


def write_pixels(path: Path, parts: Sequence[Classed]) -> None:
    """The central pixels of pictures as descriptors: less their mean, of length 1."""
    found = {
        part.split: np.stack([_pixels(part, i) for i in range(len(part.images))]) for part in parts
    }
    mean = found["train"].mean(axis=0)
    sizes = {part.split: len(part.images) for part in parts}
    with writing(path, sizes, mean.size, parts[0].classes, {}) as writer:
        for part in parts:
            writer.begin(part.split)
            for i, pixels in enumerate(found[part.split] - mean):
                descriptor = (pixels / np.linalg.norm(pixels)).astype(np.float32)
                writer.add(part.images.name(i), descriptor, part.labels[i])


def _pixels(part: Classed, index: int) -> NDArray[np.float64]:
    (rescaled,) = rescalings(decode(part.images.read(index), "RGB"), (PIXELS,))
    top, left = ((side - PIXELS) // 2 for side in rescaled.shape[:2])
    crop = rescaled[top : top + PIXELS, left : left + PIXELS]
    return crop.astype(np.float64).reshape(-1)


def row(name: str, found: Sequence[dict[str, float]]) -> str:
    """A line of the table: the mean over seeds and how far they lie apart."""
    numbers, cs = f"{found[0]['numbers']:.0f}", ", ".join(f"{one['c']:g}" for one in found)
    scores = (percent([one[key] for one in found]) for key in ("accuracy", "precision"))
    return line(name, numbers, cs, *scores)


def main() -> None:
    given = asked("Are features of use for classes never seen?", USUAL, QUICK)
    study = Study(OUT / ("features-quick" if given.is_quick else "features"), given.effort)
    study.prepare()
    seeds = range(given.effort.seeds)
    at_once(given.jobs, study.bundle, [(net, seed) for seed in seeds for net in "AB"])
    print(f"{given.effort}\n\n{line('descriptor', 'numbers', 'C', 'accuracy', 'mean AP')}")
    print("|---|---|---|---|---|", flush=True)
    print(row(f"pixels, {PIXELS} × {PIXELS}", [study.see_pixels()]), flush=True)
    for setting in SETTINGS:
        print(row(setting.name, [study.see(setting, seed) for seed in seeds]), flush=True)


if __name__ == "__main__":
    main()
