"""The command line as a user has it: a process of its own."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

from tests.conftest import ROOT

#: What commands import, none of which starts a thread.
LIBRARIES = (
    "matplotlib.backends.backend_agg",
    "onnx",
    "onnxruntime",
    "tensorboard.summary.writer.event_file_writer",
    "torch",
    *(f"vggspec.cli.{name}" for name in ("check", "compile", "doctor", "import_", "init")),
    *(f"vggspec.cli.{name}" for name in ("inspect", "predict", "train", "verify")),
    "vggspec.training.loop",
)
#: Variables that no library reads while it is imported.
READ_LATE = {"COLUMNS", "PYTEST_CURRENT_TEST", "VGGSPEC_DATA", "XDG_CACHE_HOME"}


def vggspec(
    *args: str | Path,
    cwd: Path | None = None,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    fresh: bool = False,
    limits: dict[str, int] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``vggspec`` and give back its exit code and what it wrote.

    ``env`` is added to the environment; ``limits`` are those of the system, by their names in
    ``resource``. The process is forked from one that has loaded the libraries, which takes a tenth
    of the time, unless it must be a ``fresh`` one, has standard input or an environment that the
    libraries may see.
    """
    command = [sys.executable, "-m", "vggspec", *map(str, args)]
    if not fresh and stdin is None and env is None and hasattr(os, "fork"):
        # Libraries take much of what memory is limited to.
        server = _server(*(LIBRARIES if limits is None else ("vggspec.cli.check",)))
        if server.is_ready():
            return server.run(command, Path.cwd() / (cwd or ""), limits or {})
    assert limits is None, "limits are those of a fork"
    return subprocess.run(
        command,
        cwd=cwd,
        input=stdin,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


class Server:
    """A process of ``tests.cli.server``, for as long as this one."""

    def __init__(self, *libraries: str) -> None:
        self._environment = _early()
        self._lock = Lock()
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.server", str(requests), str(answers), *libraries],
            cwd=ROOT,
            pass_fds=(requests, answers),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        os.close(requests)
        os.close(answers)
        self._lines: IO[str] = open(self._answers, encoding="ascii")  # noqa: SIM115 (to the end)
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        os.close(self._requests)
        self._lines.close()
        self._process.wait()

    def is_ready(self) -> bool:
        """Whether it runs no command, and its libraries see the environment of now."""
        return not self._lock.locked() and self._environment == _early()

    def run(
        self, command: list[str], cwd: Path, limits: dict[str, int]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m vggspec`` with these arguments."""
        with self._lock, tempfile.TemporaryDirectory(prefix="vggspec-run-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            out.touch()
            err.touch()
            request = {
                "arguments": command[3:],
                "environment": dict(os.environ),
                "cwd": str(cwd),
                "out": str(out),
                "err": str(err),
                "limits": limits,
            }
            os.write(self._requests, f"{json.dumps(request)}\n".encode())
            code = int(self._lines.readline())
            texts = (path.read_text() for path in (out, err))
            return subprocess.CompletedProcess(command, code, *texts)


@cache
def _server(*libraries: str) -> Server:
    return Server(*libraries)


def _early() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in READ_LATE}
