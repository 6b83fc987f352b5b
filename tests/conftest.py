"""What all tests share: goldens, the specs, and the report of what is not tested here."""

import ctypes
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.runtime.bundles import Made

# How long an example takes is the machine's business: no test asserts a time. The same examples
# each time, so that a change alone makes a test fail; `--hypothesis-profile=random` draws others.
settings.register_profile("same", settings.default, deadline=None, derandomize=True)
settings.register_profile("random", settings.default, deadline=None)
settings.load_profile("same")

# Workers side by side have a processor each. With as many threads as there are processors, those of
# one wait for the other's at every small operation, and tests take up to ten times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    """Leave the user's cache alone, and let Ctrl-C reach the processes that tests start.

    What a shell starts in the background ignores it, and so does all that this starts in turn.
    """
    os.environ["XDG_CACHE_HOME"] = cache = tempfile.mkdtemp(prefix="vggspec-tests-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # to look for garbage in what is imported and collected takes ten seconds


def pytest_collection_finish() -> None:
    """Never look through all that was imported and collected."""
    gc.enable()
    gc.freeze()


def pytest_report_header() -> list[str]:
    """Say what a green run has not tested."""
    import importlib.util

    import torch

    lines = [f"CUDA: {'yes' if torch.cuda.is_available() else 'no, tests marked gpu are skipped'}"]
    missing = [
        name
        for name in ("sklearn", "tensorrt", "tensorrt_rtx", "pycuda")
        if importlib.util.find_spec(name) is None
    ]
    return [*lines, *(f"not installed: {name}" for name in missing)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _wide_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave messages on one line, where a test finds them; tests of widths set their own."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture(scope="module", autouse=True)
def _memory_is_returned() -> Iterator[None]:
    """Return to the system what a module has freed: a process runs many of them.

    What outlives one, libraries above all, is not looked through again after the next.
    """
    yield
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def _has_all_but_matplotlib(library: str) -> bool:
    from vggspec.base.optional import has_library

    return library != "matplotlib" and has_library(library)


@pytest.fixture(autouse=True)
def _no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and evaluate as where matplotlib is not installed: to draw takes longer than tiny nets.

    Not in tests marked ``curves``, nor in processes that a test starts.
    """
    if "curves" in request.keywords:
        return
    for name in ("training.loop", "studies.evaluation.evaluate"):
        module = sys.modules.get(f"vggspec.{name}")
        if module is not None:
            monkeypatch.setattr(module, "has_library", _has_all_but_matplotlib)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with ``tests/golden/<name>``, or rewrite it under ``--update-golden``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            return
        assert path.is_file(), f"no golden {name}: run pytest --update-golden and read it"
        assert text == path.read_text("utf-8")

    return check


@pytest.fixture
def made(tmp_path: Path) -> "Made":
    """A small bundle."""
    from tests.runtime.bundles import make

    return make(tmp_path / "small")


@pytest.fixture
def specs() -> Path:
    """The folder of the specs that come with vggspec."""
    return ROOT / "specs"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """State how far the backends were apart."""
    found = [
        value
        for report in terminalreporter.getreports("passed")
        for key, value in report.user_properties
        if key == "parity" and report.when == "call"
    ]
    if found:
        worst = max(found, key=lambda value: float(value.split()[0]))
        error, name = worst.split(maxsplit=1)
        terminalreporter.write_line(
            f"parity of {len(found)} specs, torch and ONNX Runtime, crop and dense:"
            f" largest relative error {error} ({name})"
        )
