"""Images of a list in the order of their shapes, for an engine that is slow to change shape."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.bundles import make
from vggspec.base.diagnostic import VggspecError
from vggspec.base.watcher import Progress, Watcher
from vggspec.data.read import reading
from vggspec.runtime import predictor as module
from vggspec.runtime.net import BundleNet
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.predicting import predict
from vggspec.runtime.predictor import Prediction, Predictor

SIZES = ((60, 40), (40, 60), (60, 40), (50, 40), (40, 60), (60, 40))
SCALES = (20, 24, 32)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for i, size in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        found.append(tmp_path / f"{i}.png")
    return found


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all runs, in order, of a session that counts as slow to change."""
    shapes: list[tuple[int, ...]] = []
    run = OrtSession.run

    def seen(self: OrtSession, feeds: Any) -> Any:
        shapes.append(feeds["image"].shape)
        return run(self, feeds)

    monkeypatch.setattr(OrtSession, "run", seen)
    monkeypatch.setattr(BundleNet, "is_slow_to_change_shape", True)
    return shapes


def changes(shapes: list[tuple[int, ...]]) -> int:
    return sum(a != b for a, b in pairwise(shapes))


def test_shapes_come_one_after_another(
    tmp_path: Path, files: list[Path], ran: list[tuple[int, ...]]
) -> None:
    with Predictor(make(tmp_path / "b").path, device="cpu") as predictor:
        alone = [predictor(file, SCALES) for file in files]
        assert changes(ran) == len(SIZES) * len(SCALES) - 1
        ran.clear()
        together = predictor(files, SCALES)
    assert changes(ran) == len(set(ran)) - 1 == len(set(SIZES)) * len(SCALES) - 1
    for one, other in zip(alone, together, strict=True):
        same(one, other)


def test_memory_bounds_a_group(
    tmp_path: Path,
    files: list[Path],
    ran: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the rescaled images; a decoded one is not kept."""
    decoded, most = 0, 0

    @contextmanager
    def counted(*given: Any) -> Iterator[Any]:
        nonlocal decoded, most
        with reading(*given) as pixels:
            decoded += 1
            most = max(most, decoded)
            yield pixels
            decoded -= 1

    monkeypatch.setattr(module, "reading", counted)
    with Predictor(make(tmp_path / "b").path, device="cpu") as predictor:
        whole = predictor(files, SCALES)
        assert (most, changes(ran)) == (1, len(set(ran)) - 1)
        ran.clear()
        monkeypatch.setattr(module, "GROUP_BYTES", 1)
        apart = predictor(files, SCALES)
    assert changes(ran) == len(SIZES) * len(SCALES) - 1
    for one, other in zip(whole, apart, strict=True):
        same(one, other)


def same(one: Prediction, other: Prediction) -> None:
    assert (one.file, one.size, one.scales) == (other.file, other.size, other.scales)
    np.testing.assert_array_equal(one.posteriors, other.posteriors)
    for mine, theirs in zip(one.maps, other.maps, strict=True):
        assert (mine.scale, mine.size, mine.origin) == (theirs.scale, theirs.size, theirs.origin)
        np.testing.assert_array_equal(mine.posteriors, theirs.posteriors)


def test_one_that_fails_is_reported_and_the_others_are_not_lost(
    tmp_path: Path,
    files: list[Path],
    ran: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In groups of four, the second of which has a file that is no image."""
    monkeypatch.setattr(module, "GROUP", 4)
    files[5].write_bytes(b"no image")
    bundle = make(tmp_path / "b").path
    failed: list[VggspecError] = []
    steps: list[Progress] = []

    class Watch(Watcher):
        def progress(self, progress: Progress) -> None:
            steps.append(progress)

    found = list(
        predict(bundle, files, scales=SCALES, device="cpu", watch=Watch(), on_error=failed.append)
    )
    assert [one.file for one in found] == [str(file) for file in files[:5]]
    assert [one.reports[0].path for one in failed] == [str(files[5])]
    assert [one.done for one in steps] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(VggspecError, match=r"5\.png"):
        list(predict(bundle, files, scales=SCALES, device="cpu"))


def test_open_files_are_read_once(
    tmp_path: Path, files: list[Path], ran: list[tuple[int, ...]]
) -> None:
    bundle = make(tmp_path / "b").path
    with files[0].open("rb") as one, files[1].open("rb") as other:
        found = list(predict(bundle, [one, other], device="cpu"))
    for mine, theirs in zip(found, predict(bundle, files[:2], device="cpu"), strict=True):
        np.testing.assert_array_equal(mine.posteriors, theirs.posteriors)
