"""The paper's questions, asked of small nets: does depth help, scale jitter, a start from net A?

Trains the nets of ``miniature.vgg`` on the pictures of ``shapes.py``, tests them densely, and
writes a table with the mean error over seeds and how far the seeds lie apart. What is trained is
kept: a second call goes on where the first one ended.

    python -m benchmarks.paper_in_miniature

Source: Simonyan & Zisserman 2015, section 3.1 (the start from A) and Tables 3 and 4.

S is the smallest side of a training image in pixels, Q that of a test image.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import shapes
from benchmarks.weights import OUT

SPEC = Path(__file__).with_name("miniature.vgg")

#: For each S, Q as in Table 3 of the paper, and several Q as in its Table 4.
SCALES = {"37": (37, (32, 37, 42)), "55": (55, (50, 55, 60)), "37..73": (55, (37, 55, 73))}

WEAK = "normal 0.08"  # weights too small for their signals to come through many layers
LEARNS_BELOW = 0.8  # the error that tells a net from one that still guesses, which has 11/12


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A net and how it is trained; each is trained once for every seed."""

    net: str
    scale: str = "37"
    start: str = "he"
    is_from_a: bool = False
    """The first four conv layers and the three FC are A's, trained; the others start as they do."""

    @property
    def name(self) -> str:
        words = (self.net, self.scale, self.start.replace(" ", ""), "A" if self.is_from_a else "")
        return "-".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of a training: errors from 0 to 1."""

    at_one_scale: float
    at_several: float
    learns_from: int | None
    """The first epoch with a validation error below ``LEARNS_BELOW``; None where none has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done for the table."""

    seeds: int = 2
    epochs: int = 18
    train: int = 300
    """Training pictures a class."""

    val: int = 75


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
TABLES = {
    "Does depth help?": DEPTH,
    "Does scale jitter help?": JITTER,
    "Does a start from A help?": START,
}


class Laboratory:
    """A folder with pictures, trainings and tests; what is there is not done again."""

    def __init__(self, root: Path, effort: Effort) -> None:
        self._root = root
        self._effort = effort
        self._data = root / "pictures"

    def prepare(self) -> None:
        """Draw the pictures."""
        if not self._data.exists():
            drawn = self._root / "drawing"
            shutil.rmtree(drawn, ignore_errors=True)
            shapes.write_folder(drawn, train=self._effort.train, val=self._effort.val)
            drawn.rename(self._data)

    def see(self, setting: Setting, seed: int) -> Seen:
        """Train and test, unless that has been done."""
        run = self._run(setting, seed)
        path = run / "seen.json"
        if not path.exists():
            if not _is_done(run):
                self._train(setting, seed)
            q, several = SCALES[setting.scale]
            bundle = str(run / "bundle")
            best = str(run / "best.safetensors")
            self._vggspec("compile", f"{SPEC}:{setting.net}", "--weights", best, "-o", bundle)
            seen = {
                "at_one_scale": self._error(bundle, (q,)),
                "at_several": self._error(bundle, several),
                "learns_from": _learns_from(run / "log.jsonl"),
            }
            path.write_text(json.dumps(seen))
        return Seen(**json.loads(path.read_text()))

    def _run(self, setting: Setting, seed: int) -> Path:
        return self._root / f"{setting.name}-{seed}"

    def _train(self, setting: Setting, seed: int) -> None:
        run = self._run(setting, seed)
        shutil.rmtree(run, ignore_errors=True)
        settings = {
            "scale": setting.scale,
            "start": setting.start,
            "stop": f"after {self._effort.epochs} epochs",
        }
        options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        if setting.is_from_a:
            layers = "first 4 conv, last 3 FC"
            options += ["--set", f'start=from "{self._trained_a(seed)}": {layers}']
        options += ["--gpus", "0", "--precision", "fp32"]
        options += ["--data", str(self._data), "--out", str(run), "--seed", str(seed)]
        self._vggspec("train", f"{SPEC}:{setting.net}", *options)

    def _trained_a(self, seed: int) -> str:
        """Net A with its trained weights beside it, as a spec that others start from."""
        folder = self._root / "starts" / str(seed)
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
        predictions = json.loads(self._vggspec("predict", bundle, *pictures, *at, "--json"))
        pairs = ((Path(one["file"]).parent.name, one["top"][0]["label"]) for one in predictions)
        return statistics.mean(float(label != found) for label, found in pairs)

    def _vggspec(self, *words: str) -> str:
        """Run a command on one thread of the CPU; what it prints."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "vggspec", *words]
        done = subprocess.run(
            command, cwd=self._root, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            raise RuntimeError(f"vggspec {' '.join(words[:2])} … ended with {done.returncode}")
        return done.stdout


def _is_done(run: Path) -> bool:
    record = run / "run.json"
    result = json.loads(record.read_text()).get("result") if record.exists() else None
    return result is not None and not result["was_stopped"]


def _learns_from(log: Path) -> int | None:
    lines = (json.loads(line) for line in log.read_text().splitlines())
    learnt = (
        line["epoch"]
        for line in lines
        if "validation" in line and line["validation"]["errors"]["top-1"] < LEARNS_BELOW
    )
    return next(learnt, None)


def see_all(laboratory: Laboratory, seeds: int, jobs: int) -> dict[Setting, list[Seen]]:
    """Every setting of the tables with every seed, so many at a time; net A before its heirs."""
    settings = dict.fromkeys(setting for table in TABLES.values() for setting in table)
    found: dict[Setting, list[Seen]] = {setting: [] for setting in settings}

    def look(setting: Setting, seed: int) -> Seen:
        began = time.perf_counter()
        seen = laboratory.see(setting, seed)
        took = f"{time.perf_counter() - began:.0f} s"
        print(f"{setting.name} seed {seed}: {seen.at_one_scale:.1%}, {took}", flush=True)
        return seen

    for is_from_a in (False, True):
        mine = [setting for setting in settings if setting.is_from_a == is_from_a]
        pool = ThreadPoolExecutor(jobs)
        try:
            looks = [(s, pool.submit(look, s, seed)) for seed in range(seeds) for s in mine]
            for setting, seen in looks:
                found[setting].append(seen.result())
        finally:
            pool.shutdown(cancel_futures=True)
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
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def percent(shares: Sequence[float]) -> str:
    """The mean and, of several, the standard deviation: ``20.3 ± 1.4 %``."""
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread} %"


def main() -> None:
    parser = argparse.ArgumentParser(description="The paper's questions, asked of small nets.")
    parser.add_argument("--quick", action="store_true", help="show that it works, in a minute")
    parser.add_argument("--seeds", type=int, help="trainings of each setting (2)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time (one a core)"
    )
    given = parser.parse_args()
    effort = QUICK if given.quick else Effort()
    root = (OUT / ("miniature-quick" if given.quick else "miniature")).resolve()
    laboratory = Laboratory(root, effort)
    laboratory.prepare()
    seeds = given.seeds or effort.seeds
    found = see_all(laboratory, seeds, given.jobs)
    pictures = f"{effort.train} training and {effort.val} validation pictures a class"
    text = (
        f"{seeds} seeds, {effort.epochs} epochs, {pictures}; top-1 errors of dense application,"
        f" the mean ± the standard deviation over seeds.\n\n{tables(found)}"
    )
    (root / "table.md").write_text(text)
    print(f"\n{text}\n{root / 'table.md'}")


if __name__ == "__main__":
    main()
