"""Checks and measures what needs a GPU, in about eight minutes.

    python -m benchmarks.gpu                     every step, into docs/gpu-results.md
    python -m benchmarks.gpu --only dense ranks
    python -m benchmarks.gpu --list

Each step is a process with a time limit; a step that fails, hangs or lacks a library stops no
other. What a step printed is appended as soon as it ends. `$OUT/NAME.log` has all of its output.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu.machine import heading, table
from benchmarks.gpu.steps import STEPS, Step, lacking

MISSING = 3  # the exit code of a script that lacks something
LINES = 40  # of the end of a step's output


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step."""

    name: str
    state: str
    """done, failed, stopped, refused or skipped."""

    seconds: float = 0
    why: str = ""


def run(step: Step, out: Path, limit: float) -> Outcome:
    """Run it to its end or its limit, with its output in ``OUT/NAME.out`` and ``.log``."""
    command = [os.path.expandvars(word) for word in step.command]
    output, log = out / f"{step.name}.out", out / f"{step.name}.log"
    start = time.monotonic()
    with output.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # with what it started; also after Ctrl-C
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - start
    if code == 0:
        return Outcome(step.name, "done", seconds)
    if code is None:
        return Outcome(step.name, "stopped", seconds, f"its limit was {limit:.0f} s")
    said = read(output) + read(log)
    last = said.strip().rpartition("\n")[2][:200]
    if step.refusal is not None and step.refusal in said:
        at = said.rfind("\n", 0, said.index(step.refusal)) + 1
        return Outcome(step.name, "refused", seconds, " ".join(said[at:].split())[:300])
    state = "skipped" if code == MISSING else "failed"
    return Outcome(step.name, state, seconds, f"exit {code}: {last}")


def read(path: Path) -> str:
    """What a step wrote, whatever its bytes."""
    return path.read_text("utf-8", "replace")


def section(step: Step, outcome: Outcome, out: Path) -> str:
    """What a step says, in Markdown."""
    said = read(out / f"{step.name}.out").rstrip()
    if outcome.state in ("failed", "refused"):
        said = f"{said}\n{read(out / f'{step.name}.log')}".strip()
    if outcome.state == "failed" or not step.is_markdown:
        said = "\n".join(f"    {line}".rstrip() for line in said.splitlines()[-LINES:])
    ending = f"{outcome.state.capitalize()} after {outcome.seconds:.0f} s"
    ending += f": {outcome.why}" if outcome.why else ""
    command = " ".join(["python", *step.command[1:]])
    return f"### {step.question}\n\n`{command}`\n\n{said}\n\n{ending}.\n\n"


def summary(outcomes: Sequence[Outcome]) -> str:
    """A row for each step."""
    rows = [
        [one.name, one.state, f"{one.seconds:.0f}", one.why.replace("|", "\\|")] for one in outcomes
    ]
    return table(["step", "outcome", "s", "why"], rows)


def append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def run_all(steps: Sequence[Step], out: Path, results: Path, seconds: float) -> list[Outcome]:
    """Every step in order; one for which no time is left is skipped.

    What lacks something is looked at again after all others: a library may be under way.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    end = time.monotonic() + seconds
    has_heading = False
    queue = deque(steps)
    deferred: set[str] = set()
    while queue:
        step = queue.popleft()
        lacks, left = lacking(step.needs), end - time.monotonic()
        if lacks and step.name not in deferred:
            deferred.add(step.name)
            queue.append(step)
            continue
        if lacks:
            outcome = Outcome(step.name, "skipped", 0, "; ".join(lacks))
        elif left < 1:
            outcome = Outcome(step.name, "skipped", 0, f"the {seconds / 60:g} minutes are over")
        else:
            if not has_heading:
                append(results, f"\n{heading(f'{datetime.now(UTC):%Y-%m-%d}')}\n")
                has_heading = True
            outcome = run(step, out, min(step.seconds, left))
            append(results, section(step, outcome, out))
        outcomes.append(outcome)
        print(f"{outcome.name}: {outcome.state}, {outcome.seconds:.0f} s {outcome.why}", flush=True)
        (out / "summary.md").write_text(summary(outcomes), "utf-8")
    if has_heading:
        append(results, f"### Steps\n\n{summary(outcomes)}")
    return outcomes


def main(texts: Sequence[str]) -> int:
    """1 where a step failed or was stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = [step.name for step in STEPS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="STEP")
    parser.add_argument("--list", action="store_true", help="what a step asks and what it lacks")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    parser.add_argument("--minutes", type=float, default=8, metavar="N", help="for all (8)")
    parser.add_argument("--out", type=Path, default=Path("bench-out/gpu"), metavar="DIR")
    results = Path("docs/gpu-results.md")
    parser.add_argument("--results", type=Path, default=results, metavar="FILE")
    given = parser.parse_args(texts)
    steps = [step for step in STEPS if step.name in given.only]
    if given.list or given.dry_run:
        for step in steps:
            lacks = "; ".join(lacking(step.needs))
            print(f"{step.name}, at most {step.seconds:.0f} s")
            print(f"    {' '.join(step.command) if given.dry_run else step.question}")
            print(f"    skipped: {lacks}" if lacks else "    can run")
        return 0
    outcomes = run_all(steps, given.out, given.results, 60 * given.minutes)
    return int(any(one.state in ("failed", "stopped") for one in outcomes))


def run_main(texts: Sequence[str]) -> int:
    """``main``; where the reader of what it prints has gone, such as ``head``, it ends quietly."""
    try:
        code = main(texts)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(run_main(sys.argv[1:]))
