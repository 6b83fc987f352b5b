"""Fine-tuning in miniature: what a trained net is worth to few pictures of other classes.

Trains a small net on the pictures of crosses and rings that ``shapes.py`` draws, and then nets for
squares and triangles on 20 pictures a class: from random weights, and from the trained net in the
ways that a recipe can say. Prints the error of each on 75 pictures a class, and its training time.

    python -m benchmarks.fine_tuning_in_miniature

Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", for the last layer first.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.laboratory import Effort, Laboratory, asked, at_once, line, percent, record
from benchmarks.weights import OUT

SPEC = Path(__file__).with_name("miniature-tuning.vgg")
SEEN = ("cross", "ring")  # shapes whose six classes the source is trained on
FEW = 20  # pictures a class for fine-tuning

USUAL = Effort(epochs=18)
QUICK = Effort(epochs=1, seeds=1, train=10, val=5)

START = f'start=from "{SPEC.name}:source": all but last FC'
LAST_ALONE = "freeze=up to relu4"


@dataclass(frozen=True, slots=True)
class Way:
    """A row of the table: a name, and settings of the recipe beyond the spec's."""

    name: str
    settings: tuple[str, ...] = ()
    epochs: int = 24


WAYS = (
    Way("random weights"),
    Way("random weights, five times as long", epochs=120),
    Way("the last layer alone", (START, LAST_ALONE)),
    Way("all layers at once", (START,)),
    Way(
        "all at a tenth of the rate, the last at ten times that",
        (START, "rate=4e-4", "rate=of fc5 x 10"),
    ),
    Way("the last layer for 8 epochs, then all", (START, LAST_ALONE, "after=8 epochs: free all")),
)


class Study(Laboratory):
    """Pictures, trainings and results."""

    def __init__(self, root: Path, effort: Effort) -> None:
        super().__init__(root)
        self._effort = effort
        self._source = self.root / "source"
        self._few = self.root / "few"

    def prepare(self) -> None:
        """Draw the pictures, and divide them into the source's and a few of other classes."""
        if self._few.exists():
            return
        drawn = self.draw(self._effort)
        part = self.root / "few.part"
        for folder in (self._source, part):
            shutil.rmtree(folder, ignore_errors=True)
        for split in ("train", "val"):
            for folder in sorted((drawn / split).iterdir()):
                is_seen = folder.name.split("-")[0] in SEEN
                target = (self._source if is_seen else part) / split / folder.name
                target.mkdir(parents=True)
                pictures = sorted(folder.iterdir())
                number = len(pictures) if is_seen or split == "val" else FEW
                for picture in pictures[:number]:
                    shutil.copy(picture, target)
        part.rename(self._few)

    def train_source(self, seed: int) -> None:
        """The trained net beside its spec, where others start from it."""
        folder = self._folder(seed)
        folder.mkdir(exist_ok=True)
        shutil.copy(SPEC, folder)
        run = self.root / f"source-{seed}"
        spec = f"{folder / SPEC.name}:source"
        best = self.trained(spec, run, self._source, seed, [self._effort.stop])
        shutil.copy(best, folder / "source.safetensors")

    def see(self, way: Way, seed: int) -> tuple[float, float]:
        """The error from 0 to 1 of the best epoch, and the seconds of the training."""
        run = self.root / f"{WAYS.index(way)}-{seed}"
        epochs = min(way.epochs, 2 if self._effort is QUICK else way.epochs)
        settings = [*way.settings, f"stop=after {epochs} epochs"]
        self.trained(f"{self._folder(seed) / SPEC.name}:target", run, self._few, seed, settings)
        result = record(run)["result"]
        return result["best"]["validation"]["errors"]["top-1"], result["seconds"]

    def _folder(self, seed: int) -> Path:
        return self.root / f"nets-{seed}"


def main() -> None:
    given = asked(__doc__.partition("\n")[0], USUAL, QUICK)
    effort = given.effort
    study = Study(OUT / ("tuning-quick" if given.is_quick else "tuning"), effort)
    study.prepare()
    at_once(given.jobs, study.train_source, [(seed,) for seed in range(effort.seeds)])
    tasks = [(way, seed) for way in WAYS for seed in range(effort.seeds)]
    found = dict(zip(tasks, at_once(given.jobs, study.see, tasks), strict=True))
    lines = ["| start and recipe | epochs | error | seconds |", "|---|---|---|---|"]
    for way in WAYS:
        seen = [found[way, seed] for seed in range(effort.seeds)]
        seconds = max(seconds for _, seconds in seen)
        error = percent([error for error, _ in seen])
        lines.append(line(way.name, str(way.epochs), error, f"{seconds:.0f}"))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
