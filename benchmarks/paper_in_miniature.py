"""The paper's questions, asked of small nets: does depth help, scale jitter, a start from net A?

And one of a later paper: do shortcuts help? Trains the nets of ``miniature.vgg`` and of
``miniature-graphs.vgg`` on the pictures of ``shapes.py``, tests them densely, and writes a table
with the mean error over seeds and how far the seeds lie apart.

    python -m benchmarks.paper_in_miniature

Sources: Simonyan & Zisserman 2015, section 3.1 (the start from A) and Tables 3 and 4; He et al.
2016, Table 2 (plain nets and residual ones).

S is the smallest side of a training image in pixels, Q that of a test image.
"""

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.laboratory import Effort, Laboratory, asked, at_once, line, percent
from benchmarks.weights import OUT

SPEC = Path(__file__).with_name("miniature.vgg")
GRAPHS = Path(__file__).with_name("miniature-graphs.vgg")

#: For each S, Q as in Table 3 of the paper, and several Q as in its Table 4.
SCALES = {"37": (37, (32, 37, 42)), "55": (55, (50, 55, 60)), "37..73": (55, (37, 55, 73))}

WEAK = "normal 0.08"  # weights too small for their signals to come through many layers
LEARNS_BELOW = 0.8  # the error that tells a net from one that still guesses, which has 11/12


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A net and how it is trained; each is trained once for every seed."""

    net: str
    file: Path = SPEC
    scale: str = "37"
    start: str = "he"
    is_from_a: bool = False
    """The first four conv layers and the three FC are A's, trained; the others start as they do."""

    @property
    def name(self) -> str:
        words = (self.net, self.scale, self.start.replace(" ", ""), "A" if self.is_from_a else "")
        return "-".join(word for word in words if word)

    @property
    def spec(self) -> str:
        return f"{self.file}:{self.net}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of a training: errors from 0 to 1."""

    at_one_scale: float
    at_several: float
    learns_from: int | None
    """The first epoch with a validation error below ``LEARNS_BELOW``; None where none has."""


USUAL = Effort(epochs=18)
QUICK = Effort(seeds=1, epochs=2, train=40, val=10)

#: As in the paper, A is trained first and the deeper nets start from it.
DEPTH = [Setting(net="A"), *(Setting(net=net, is_from_a=True) for net in "BCDE")]
JITTER = [Setting(net="D", scale=scale, is_from_a=True) for scale in SCALES]
START = [
    Setting(net="D"),
    Setting(net="D", is_from_a=True),
    Setting(net="E", start=WEAK),
    Setting(net="E"),
    Setting(net="E", is_from_a=True),
]
GRAPH_NETS = ("E-shortcut", "E-BN", "E-BN-shortcut", "ResNet-18", "column")
SHORTCUTS = [Setting(net="E"), *(Setting(net=net, file=GRAPHS) for net in GRAPH_NETS)]
TABLES = {
    "Does depth help?": DEPTH,
    "Does scale jitter help?": JITTER,
    "Does a start from A help?": START,
    "Do shortcuts help?": SHORTCUTS,
}


class Study(Laboratory):
    """Pictures, trainings and tests."""

    def __init__(self, root: Path, effort: Effort) -> None:
        super().__init__(root)
        self._effort = effort
        self._data = self.draw(effort)

    def see(self, setting: Setting, seed: int) -> Seen:
        """Train and test, unless that has been done."""
        run = self._run(setting, seed)
        path = run / "seen.json"
        if not path.exists():
            best = self._train(setting, seed)
            q, several = SCALES[setting.scale]
            bundle = str(run / "bundle")
            self.vggspec("compile", setting.spec, "--weights", str(best), "-o", bundle)
            seen = {
                "at_one_scale": self._error(bundle, (q,)),
                "at_several": self._error(bundle, several),
                "learns_from": _learns_from(run / "log.jsonl"),
            }
            path.write_text(json.dumps(seen))
        return Seen(**json.loads(path.read_text()))

    def _run(self, setting: Setting, seed: int) -> Path:
        return self.root / f"{setting.name}-{seed}"

    def _train(self, setting: Setting, seed: int) -> Path:
        settings = [f"scale={setting.scale}", f"start={setting.start}", self._effort.stop]
        if setting.is_from_a:
            layers = "first 4 conv, last 3 FC"
            settings.append(f'start=from "{self._trained_a(seed)}": {layers}')
        run = self._run(setting, seed)
        return self.trained(setting.spec, run, self._data, seed, settings)

    def _trained_a(self, seed: int) -> str:
        """Net A with its trained weights beside it, as a spec that others start from."""
        folder = self.root / "starts" / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(SPEC, folder)
        shutil.copy(
            self._run(Setting(net="A"), seed) / "best.safetensors", folder / "A.safetensors"
        )
        return f"{folder / SPEC.name}:A"

    def _error(self, bundle: str, scales: Sequence[int]) -> float:
        """The share of validation pictures whose class is not the likeliest, applied densely."""
        pictures = sorted(str(path) for path in self._data.glob("val/*/*.jpg"))
        at = ["--scales", ",".join(map(str, scales)), "--top", "1", "--threads", "1"]
        predictions = json.loads(self.vggspec("predict", bundle, *pictures, *at, "--json"))
        pairs = ((Path(one["file"]).parent.name, one["top"][0]["label"]) for one in predictions)
        return statistics.mean(float(label != found) for label, found in pairs)


def _learns_from(log: Path) -> int | None:
    entries = (json.loads(entry) for entry in log.read_text().splitlines())
    learnt = (
        entry["epoch"]
        for entry in entries
        if "validation" in entry and entry["validation"]["errors"]["top-1"] < LEARNS_BELOW
    )
    return next(learnt, None)


def see_all(study: Study, seeds: int, jobs: int) -> dict[Setting, list[Seen]]:
    """Every setting of the tables with every seed, so many at a time; net A before its heirs."""
    settings = dict.fromkeys(setting for table in TABLES.values() for setting in table)
    found: dict[Setting, list[Seen]] = {setting: [] for setting in settings}

    def look(setting: Setting, seed: int) -> Seen:
        began = time.perf_counter()
        seen = study.see(setting, seed)
        took = f"{time.perf_counter() - began:.0f} s"
        print(f"{setting.name} seed {seed}: {seen.at_one_scale:.1%}, {took}", flush=True)
        return seen

    for is_from_a in (False, True):
        mine = [setting for setting in settings if setting.is_from_a == is_from_a]
        looks = [(setting, seed) for seed in range(seeds) for setting in mine]
        for (setting, _), seen in zip(looks, at_once(jobs, look, looks), strict=True):
            found[setting].append(seen)
    return found


def tables(found: dict[Setting, list[Seen]]) -> str:
    """The tables in Markdown."""
    lines = []
    for question, settings in TABLES.items():
        lines += [f"## {question}", ""]
        lines += [
            "| net | S | start | Q | error at Q | several Q | error there | learns from epoch |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for setting in settings:
            seen = found[setting]
            q, several = SCALES[setting.scale]
            cells = (
                setting.net,
                setting.scale,
                f"A, the rest {setting.start}" if setting.is_from_a else setting.start,
                str(q),
                percent([one.at_one_scale for one in seen]),
                ", ".join(map(str, several)),
                percent([one.at_several for one in seen]),
                ", ".join(str(one.learns_from or "none") for one in seen),
            )
            lines.append(line(*cells))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    given = asked("The paper's questions, asked of small nets.", USUAL, QUICK)
    effort = given.effort
    study = Study(OUT / ("miniature-quick" if given.is_quick else "miniature"), effort)
    found = see_all(study, effort.seeds, given.jobs)
    text = (
        f"{effort}; top-1 errors of dense application, the mean ± the standard deviation over"
        f" seeds.\n\n{tables(found)}"
    )
    (study.root / "table.md").write_text(text)
    print(f"\n{text}\n{study.root / 'table.md'}")


if __name__ == "__main__":
    main()
