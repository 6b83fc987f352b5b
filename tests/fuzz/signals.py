"""Signals at random moments of every command: ``python -m tests.fuzz.signals --times 200``.

Each time a command is started as a user starts it, and SIGINT or SIGTERM is sent at some moment of
its life. It has to end with 130 or 143 and one line that says so, or, where all was done and told,
with what it would have said and done without the signal. A signal that comes before the first line
of ours is Python's, or the system's, to answer, and is counted by itself.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

SPEC = """\
net small
input 32x32 RGB(mean 120 115 100, std 58 57 56)
conv3-8
maxpool
FC-2
soft-max

train:
  scale 36..40
  batch 4
  stop after 2 epochs

test:
  scale 36
"""

#: What is run, each in a copy of a folder that has all it needs.
COMMANDS = {
    "check": ["check", "small.vgg"],
    "show": ["show", "small.vgg", "--svg", "out.svg"],
    "init": ["init", "small.vgg", "-o", "out.safetensors"],
    "import": ["import", "small.vgg", "small.safetensors", "-o", "out.safetensors"],
    "merge": ["merge", "small.vgg", "--weights", "small.safetensors", "-o", "out.vgg"],
    "compile": ["compile", "small.vgg", "--weights", "small.safetensors", "-o", "bundle"],
    "inspect": ["inspect", "bundle"],
    "predict": ["predict", "bundle", "data/val/a/0.png"],
    "verify": ["verify", "bundle"],
    "eval": ["eval", "bundle", "--data", "data"],
    "eval by two": ["eval", "bundle", "--data", "data", "--procs", "2"],
    "features": ["features", "bundle", "--data", "data", "-o", "out.safetensors"],
    "doctor": ["doctor", "bundle"],
    "train": ["train", "small.vgg", "--data", "data", "-o", "run", "--workers", "0"],
    "train by two": ["train", "small.vgg", "--data", "data", "-o", "run", "--workers", "2"],
    "train two ranks": ["train", "small.vgg", "--data", "data", "-o", "run", "--procs", "2"],
}  # fmt: skip
TOLD = re.compile(r"^interrupted\b", re.MULTILINE)
WRONG = re.compile(
    r"Traceback|Exception ignored|Fatal|terminate called|core dumped|left behind|Error:|error\["
)


def prepare(folder: Path) -> None:
    """A net, its weights, a bundle, and images."""
    (folder / "small.vgg").write_text(SPEC)
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("a", "b"):
            (folder / "data" / split / label).mkdir(parents=True)
            for i in range(4):
                pixels = random.integers(0, 255, (40, 44, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "data" / split / label / f"{i}.png")
    for args in (["init", "small.vgg"], [*COMMANDS["compile"], "--map"]):
        subprocess.run(command_line(args), cwd=folder, check=True, capture_output=True)


def command_line(args: list[str]) -> list[str]:
    """``vggspec`` as an installed script starts it."""
    program = "import sys; from vggspec.__main__ import main; main()"
    return [sys.executable, "-c", program, *args]


def run(
    args: list[str], made: Path, sent: signal.Signals | None = None, at: float = 0
) -> tuple[int, str, str, float]:
    """Exit code, output, errors and seconds of a command that gets a signal at some moment."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "here")
        shutil.copytree(made, folder)
        env = os.environ | {"HOME": scratch, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": scratch}
        start = time.monotonic()
        with subprocess.Popen(
            command_line(args), cwd=folder, env=env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as child:  # fmt: skip
            if sent is not None:
                try:
                    child.wait(at)
                except subprocess.TimeoutExpired:
                    # A terminal interrupts all its processes; others signal the one they know.
                    (os.killpg if sent is signal.SIGINT else os.kill)(child.pid, sent)
            out, errors = child.communicate()
        if left := [path.name for path in folder.rglob(".*")]:
            errors += f"left behind: {left}"
        return child.returncode, out, errors, time.monotonic() - start


def kind(sent: signal.Signals, code: int, out: str, errors: str, expected: tuple[int, str]) -> str:
    """What became of a command, in words; "WRONG" where it must not be so."""
    is_pythons = errors.endswith("KeyboardInterrupt\n") and "/vggspec/" not in errors
    if code == -sent or is_pythons:
        return "before our first line"
    is_wrong = WRONG.search(errors) is not None
    if code == 128 + sent:
        return "interrupted" if len(TOLD.findall(errors)) == 1 and not is_wrong else "WRONG line"
    if (code, out) == expected:
        return "done before" if not TOLD.search(errors) and not is_wrong else "WRONG line"
    return f"WRONG exit code {code}"


def main() -> int:
    """1 where a command ended as it must not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.signals", description=__doc__)
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}; else all")
    parser.add_argument("--times", type=int, default=40, help="for each command")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    random, failed = Random(given.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        prepare(made)
        for name in given.commands or COMMANDS:
            code, out, _, seconds = run(COMMANDS[name], made)
            seen: Counter[str] = Counter()
            for _ in range(given.times):
                sent = random.choice([signal.SIGINT, signal.SIGTERM])
                at = random.uniform(0, 1.2 * seconds)
                found = run(COMMANDS[name], made, sent, at)
                what = kind(sent, found[0], found[1], found[2], (code, out))
                seen[f"{what}"] += 1
                if what.startswith("WRONG"):
                    failed += 1
                    print(f"--- {name}: {sent.name} after {at:.3f} s: {what}\n{found[1]}{found[2]}")
            counts = ", ".join(f"{each} {times}" for each, times in seen.most_common())
            print(f"{name} ({seconds:.1f} s): {counts}", flush=True)
    print(f"seed {given.seed}: {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
