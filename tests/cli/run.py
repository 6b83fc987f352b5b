"""The command line as a user has it: a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def vggspec(
    *args: str | Path,
    cwd: Path | None = None,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``vggspec`` and give back its exit code and what it wrote.

    ``env`` is added to the environment.
    """
    command = [sys.executable, "-m", "vggspec", *map(str, args)]
    return subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
