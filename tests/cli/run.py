"""The command line as a user has it: a process of its own."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, Self

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
#: Variables that no library reads while it is imported, or that it sets itself: scikit-learn those
#: of OpenMP, PyTorch's compiler that of its cache.
READ_LATE = {
    "COLUMNS", "PYTEST_CURRENT_TEST", "VGGSPEC_DATA", "XDG_CACHE_HOME",
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR",
}  # fmt: skip


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
            with server.start(command[3:], Path.cwd() / (cwd or ""), limits=limits) as process:
                out, err = process.communicate()
            return subprocess.CompletedProcess(command, process.returncode, out, err)
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


def start(*args: str | Path, cwd: Path | None = None, is_leader: bool = False) -> "Started":
    """Start ``vggspec`` in such a fork; as a leader it has a session, and so a group, of its own.

    The end of a ``with`` statement kills it.
    """
    server = _server(*LIBRARIES)
    assert server.is_ready(), "another environment"
    arguments = [*map(str, args)]
    return server.start(arguments, Path.cwd() / (cwd or ""), is_leader=is_leader)


class Started:
    """A command that a server has started; it is used as a ``subprocess.Popen`` is."""

    def __init__(self, server: "Server", pid: int, folder: Path, stderr: IO[str]) -> None:
        self.pid = pid
        self.stderr = stderr
        self._server = server
        self._folder = folder
        self._code: int | None = None

    @property
    def returncode(self) -> int:
        """Its exit code, once it is known to have ended."""
        assert self._code is not None
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.wait()
        self.stderr.close()
        shutil.rmtree(self._folder)

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if self._code is None:
            self._code = self._server.ask(wait=self.pid, flags=os.WNOHANG)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self._code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end."""
        if self._code is None:
            self._code = self._server.ask(wait=self.pid, flags=0)

    def communicate(self) -> tuple[str, str]:
        """What it has written, and the rest of its errors, when it has ended."""
        err = self.stderr.read()
        self.wait()
        return (self._folder / "out").read_text(), err


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

    def start(
        self,
        arguments: list[str],
        cwd: Path,
        *,
        limits: dict[str, int] | None = None,
        is_leader: bool = False,
    ) -> Started:
        """Start ``vggspec`` with these arguments."""
        folder = Path(tempfile.mkdtemp(prefix="vggspec-run-"))
        out, err = folder / "out", folder / "err"
        out.touch()
        os.mkfifo(err)
        stderr = os.open(err, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for who writes
        os.set_blocking(stderr, True)
        pid = self.ask(
            arguments=arguments,
            environment=dict(os.environ),
            cwd=str(cwd),
            out=str(out),
            err=str(err),
            limits=limits or {},
            is_leader=is_leader,
        )
        assert pid is not None
        return Started(self, pid, folder, open(stderr, encoding="utf-8"))

    def ask(self, **request: Any) -> int | None:
        """What it answers to a request."""
        with self._lock:
            os.write(self._requests, f"{json.dumps(request)}\n".encode())
            answer: int | None = json.loads(self._lines.readline())
            return answer


@cache
def _server(*libraries: str) -> Server:
    return Server(*libraries)


def _early() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in READ_LATE}
