"""Type-checks the package as it is installed.

mypy cannot see that ``compiler/`` and ``runtime/`` are parts of ``vggspec``, so the packages are
laid out as setuptools installs them, and checked there.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """The exit code of mypy."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    cache = ROOT / ".mypy_cache"
    with tempfile.TemporaryDirectory() as scratch:
        for package, folder in setup["package-dir"].items():
            shutil.copytree(
                ROOT / folder,
                Path(scratch, *package.split(".")),
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        command += ["--cache-dir", str(cache), "-p", "vggspec"]
        return subprocess.run(command, cwd=scratch, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
