"""``python -m benchmarks``: every figure, from the root of the repository."""

import platform
import subprocess
import sys

#: One process each: a process that has grown large lends its size to what it starts.
SCRIPTS = (
    "startup",
    "compile_d",
    "compile_graphs",
    "engine_d",
    "load_d",
    "import_d",
    "dense_d",
    "evaluation",
    "protocol_graph",
    "distance_graph",
    "input_pipeline",
    "train_step",
    "int8_d",
)


def main() -> int:
    """1 where a bound is not met."""
    print(f"Python {platform.python_version()}, {platform.platform()}\n", flush=True)
    codes = [
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        for name in SCRIPTS
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
