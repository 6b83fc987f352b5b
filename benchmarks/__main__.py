"""``python -m benchmarks [NAME ...]``: every figure, from the root of the repository.

A run of all scripts writes docs/benchmarks.md and the table that the README quotes.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import page
from benchmarks.machine import versions
from benchmarks.weights import OUT
from vggspec.base.processors import processors
from vggspec.runtime.machine import processor

#: One process each: a process that has grown large lends its size to what it starts.
SCRIPTS = (
    "startup",
    "compile_d",
    "compile_graphs",
    "engine_d",
    "load_d",
    "import_d",
    "dense_d",
    "openvino_d",
    "evaluation",
    "protocol_graph",
    "distance_graph",
    "input_pipeline",
    "train_step",
    "int8_d",
)


def main() -> int:
    """1 where a bound is not met or a script failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(SCRIPTS)}")
    names: list[str] = parser.parse_args().names
    if unknown := set(names) - set(SCRIPTS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(SCRIPTS)}")
    print(f"{processor()}, {processors()} cores", flush=True)
    start = time.perf_counter()
    codes, measured = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in names or SCRIPTS:
            print(f"\n{name}", flush=True)
            path = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", "benchmarks.run_one", name, str(path)]
            codes.append(subprocess.run(command, check=False).returncode)
            if path.exists():
                measured.append(json.loads(path.read_text("utf-8")))
    seconds = time.perf_counter() - start
    print(f"\n{page.duration(seconds)}", flush=True)
    if len(measured) == len(SCRIPTS):
        record = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "processor": processor(),
            "cores": processors(),
            "versions": versions(),
            "seconds": seconds,
            "scripts": measured,
        }
        (OUT / "benchmarks.json").write_text(json.dumps(record, indent=1), "utf-8")
        page.write(record)
        print(f"written: {page.PAGE}, and the table in {page.README}")
    elif not names:
        print(f"{page.PAGE} is not written, because a script failed")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
