"""Label maps in miniature: do skips help?

Trains a small net at stride 32 on the pictures with masks of ``shapes.py``, and then the four nets
of ``miniature-maps.vgg``, which start from its trunk: FCN's heads at strides 32, 16 and 8, and a
U-Net. Prints what each is worth on whole validation pictures, pixel by pixel, its
multiply-accumulates, and its training time.

    python -m benchmarks.maps_in_miniature

Source: Long, Shelhamer & Darrell 2015, section 4.2 and table 2, where skips give 59.4, 62.4 and
62.7 % mean IoU at strides 32, 16 and 8.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from benchmarks import shapes
from benchmarks.laboratory import Effort, Laboratory, asked, at_once, line, percent, record
from benchmarks.weights import OUT
from vggspec.base.quantities import scaled
from vggspec.compiler.cost import cost
from vggspec.compiler.lower import load_network

SPEC = Path(__file__).with_name("miniature-maps.vgg")
NETS = ("FCN-32s", "FCN-16s", "FCN-8s", "U-Net")
TRUNK = "FCN-32s"  # which is trained first
START = f'start=from "{SPEC.name}:{TRUNK}": first 10 conv'
COUNTS = {"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"}

USUAL = Effort(epochs=5, train=80, val=15)
QUICK = Effort(epochs=1, seeds=1, train=2, val=1)


class Study(Laboratory):
    """Pictures with masks, trainings and tests."""

    def __init__(self, root: Path, effort: Effort) -> None:
        super().__init__(root)
        self._effort = effort
        self._pictures = self.root / "pictures"

    def draw_masks(self) -> None:
        """Draw the pictures, unless they are there."""
        if self._pictures.exists():
            return
        part = self.root / "drawing"
        shutil.rmtree(part, ignore_errors=True)
        shapes.write_masks(part, train=self._effort.train, val=self._effort.val)
        part.rename(self._pictures)

    def train_trunk(self, seed: int) -> None:
        """The net that others start from, beside its spec."""
        folder = self._folder(seed)
        folder.mkdir(exist_ok=True)
        shutil.copy(SPEC, folder)
        settings = [self._effort.stop]
        best = self.trained(
            self._spec(TRUNK, seed), folder / "trunk", self._pictures, seed, settings
        )
        shutil.copy(best, folder / f"{TRUNK}.safetensors")

    def see(self, net: str, seed: int) -> Mapping[str, float]:
        """What a net is worth on whole pictures, and the seconds of its training."""
        spec, folder = self._spec(net, seed), self._folder(seed)
        run, bundle, path = (folder / f"{net}{end}" for end in ("-run", "", ".json"))
        best = self.trained(spec, run, self._pictures, seed, [START, self._effort.stop])
        if not bundle.exists():
            self.vggspec("compile", spec, "--weights", str(best), "-o", str(bundle))
        if not path.exists():
            words = [str(bundle), "--data", str(self._pictures), "--device", "cpu"]
            found = json.loads(self.vggspec("eval", *words, "--threads", "1", "--json"))
            path.write_text(json.dumps({key: found[key] for key in COUNTS}))
        found = json.loads(path.read_text())
        told = ", ".join(f"{COUNTS[key]} {percent([found[key]])}" for key in COUNTS)
        print(f"seed {seed}: {net}: {told}", flush=True)
        return {**found, "seconds": record(run)["result"]["seconds"]}

    def _folder(self, seed: int) -> Path:
        return self.root / f"nets-{seed}"

    def _spec(self, net: str, seed: int) -> str:
        return f"{self._folder(seed) / SPEC.name}:{net}"


def table(found: Mapping[tuple[str, int], Mapping[str, float]], seeds: int) -> str:
    """The table in Markdown, of what was seen of each net with each seed."""
    lines = [line("net", "MACs", *COUNTS.values(), "seconds"), "|---|---|---|---|---|"]
    for net in NETS:
        seen = [found[net, seed] for seed in range(seeds)]
        shares = [percent([one[key] for one in seen]) for key in COUNTS]
        macs = scaled(cost(load_network(f"{SPEC}:{net}").network).macs)
        lines.append(line(net, macs, *shares, f"{max(one['seconds'] for one in seen):.0f}"))
    return "\n".join(lines)


def main() -> None:
    given = asked("Do skips help small nets to label pixels?", USUAL, QUICK)
    effort = given.effort
    study = Study(OUT / ("maps-quick" if given.is_quick else "maps"), effort)
    study.draw_masks()
    at_once(given.jobs, study.train_trunk, [(seed,) for seed in range(effort.seeds)])
    tasks = [(net, seed) for net in NETS for seed in range(effort.seeds)]
    found = dict(zip(tasks, at_once(given.jobs, study.see, tasks), strict=True))
    text = f"{effort}; the mean ± the standard deviation over seeds.\n\n"
    text += f"{table(found, effort.seeds)}\n"
    (study.root / "table.md").write_text(text)
    print(f"\n{text}\n{study.root / 'table.md'}")


if __name__ == "__main__":
    main()
