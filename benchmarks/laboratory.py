"""A folder in which ``vggspec`` draws, trains and tests: what the studies in miniature share.

Every command runs on one thread of the CPU, in fp32, so that a second machine of the same kind
comes to the same bits. What is there is not done again: a second call goes on where the first one
ended, in the middle of a training too.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import shapes
from vggspec.base.wording import count

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done for a table."""

    epochs: int
    """Of each training."""

    seeds: int = 2
    """Trainings of each net."""

    train: int = 300
    """Training pictures a class."""

    val: int = 75

    def __str__(self) -> str:
        pictures = f"{self.train} training and {self.val} validation pictures a class"
        return f"{count(self.seeds, 'seed')}, {count(self.epochs, 'epoch')}, {pictures}"

    @property
    def stop(self) -> str:
        """The setting that ends a training."""
        return f"stop=after {self.epochs} epochs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line of a study says."""

    effort: Effort
    jobs: int
    """Trainings at a time."""

    is_quick: bool


class Laboratory:
    """A folder with pictures, trainings and tests."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)

    def draw(self, effort: Effort, layout: shapes.Layout | None = None) -> Path:
        """The folder of pictures, which are drawn unless they are there."""
        pictures = self.root / "pictures"
        if not pictures.exists():
            drawn = self.root / "drawing"
            shutil.rmtree(drawn, ignore_errors=True)
            shapes.write_folder(drawn, train=effort.train, val=effort.val, layout=layout)
            drawn.rename(pictures)
        return pictures

    def trained(self, spec: str, run: Path, data: Path, seed: int, settings: Sequence[str]) -> Path:
        """The best weights of a training, which is begun or gone on with unless it has ended.

        ``settings`` change those of the spec, ``key=value``.
        """
        if not _has_ended(run):
            if not (run / "checkpoints").exists():  # nothing to go on from
                shutil.rmtree(run, ignore_errors=True)
            changes = [word for setting in settings for word in ("--set", setting)]
            where = ["--data", str(data), "--out", str(run), "--seed", str(seed)]
            how = ["--gpus", "0", "--precision", "fp32", "--resume"]
            self.vggspec("train", spec, *changes, *where, *how)
        return run / "best.safetensors"

    def vggspec(self, *words: str, within: Path | None = None) -> str:
        """Run a command in the folder, or in one within it; what it prints."""
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "vggspec", *words]
        done = subprocess.run(
            command,
            cwd=within or self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            raise RuntimeError(f"vggspec {' '.join(words[:2])} … ended with {done.returncode}")
        return done.stdout


def record(run: Path) -> dict[str, Any]:
    """What a training says of itself."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def _has_ended(run: Path) -> bool:
    result = record(run).get("result") if (run / "run.json").exists() else None
    return result is not None and not result["was_stopped"]


def at_once(jobs: int, look: Callable[..., T], tasks: Iterable[tuple[Any, ...]]) -> list[T]:
    """What comes of each task, so many at a time; none is begun after one has failed."""
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [pool.submit(look, *task) for task in tasks]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def percent(shares: Sequence[float]) -> str:
    """The mean and, of several, the standard deviation: ``20.3 ± 1.4 %``."""
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread} %"


def line(*cells: str) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def asked(description: str, usual: Effort, quick: Effort) -> Asked:
    """Read the command line of a study."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="show that it works, in a minute")
    parser.add_argument("--seeds", type=int, help=f"trainings of each net ({usual.seeds})")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time (one a core)"
    )
    given = parser.parse_args()
    effort = quick if given.quick else usual
    effort = replace(effort, seeds=given.seeds or effort.seeds)
    return Asked(effort=effort, jobs=given.jobs, is_quick=given.quick)
