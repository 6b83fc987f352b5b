"""The TensorRT session, tried on a recorded library and device: its logic, not its speed.

Every answer is compared with ONNX Runtime's, and both recorded parts fail the test where they are
used as the real ones must not be.
"""

import gc
import itertools
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.refusals import refused
from tests.runtime.bundles import CLASSES, Made, rewrite
from tests.runtime.tensorrt.fake import (
    LISTINGS,
    PROFILES,
    SCRATCH_PER_PIXEL,
    FakeCuda,
    FakeTrt,
    listing,
    make_plan,
)
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.bundle.manifest import PLAN, REFERENCE
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.profile import Profile
from vggspec.runtime.open_session import open_session
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.session import Port
from vggspec.runtime.tensorrt import cuda as cuda_module
from vggspec.runtime.tensorrt import library as flavours
from vggspec.runtime.tensorrt import session as trt_session
from vggspec.runtime.tensorrt.session import TrtSession

FLOAT = np.dtype(np.float32)


class Rig:
    """A bundle, the recorded parts, and what the answers must be."""

    def __init__(self, folder: Path, version: str, order: str | int = "late", **made: Any) -> None:
        self.made: Made = make_plan(folder, version=version, **made)
        self.cuda = FakeCuda(order)
        self.trt = FakeTrt(version, self.cuda)
        self.truth = OrtSession(folder / REFERENCE, "cpu", 1)

    def open(self, **options: Any) -> TrtSession:
        bundle = open_bundle(self.made.path)
        return TrtSession(bundle, trt=self.trt, cuda=self.cuda, **options)

    def check(self, arrays: Any, fed: dict[str, Any]) -> None:
        expected = self.truth.run(fed)
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(arrays[name], array, rtol=1e-5, atol=1e-5)


@pytest.fixture(params=LISTINGS)
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """With the names of every listing."""
    return Rig(tmp_path / "small", request.param)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "small", "11.4")


numbers = itertools.count()


def feed(n: int = 2, height: int = 24, width: int = 33) -> dict[str, Any]:
    rng = np.random.default_rng(next(numbers))
    return {"image": rng.normal(0, 80, (n, 3, height, width)).astype(np.float32)}


SHAPES = [(1, 24, 24), (2, 24, 33), (4, 24, 48), (3, 41, 24), (2, 36, 72), (1, 36, 50)]


# Answers.


def test_a_session_tells_its_ports(each: Rig) -> None:
    with each.open() as session:
        assert session.inputs == (Port("image", FLOAT, (None, 3, None, None)),)
        assert session.outputs == (
            Port("posteriors", FLOAT, (None, CLASSES)),
            Port("score_map", FLOAT, (None, CLASSES, None, None)),
        )
        assert session.device == "cuda"


@pytest.mark.parametrize("use_graphs", [True, False])
def test_every_shape_is_answered_again_and_again(each: Rig, use_graphs: bool) -> None:
    with each.open(use_graphs=use_graphs) as session:
        for shape in SHAPES * 4:
            fed = feed(*shape)
            each.check(session.run(fed), fed)
    assert ("replay" in each.cuda.calls) == use_graphs
    each.cuda.check_empty()
    assert not each.trt.contexts
    assert not each.trt.engines


def test_the_raw_contract_is_answered(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "raw", "11.4", contract="raw")
    rng = np.random.default_rng(1)
    with rig.open() as session:
        for _ in range(3):
            fed = {"image": rng.integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)}
            rig.check(session.run(fed), fed)


def test_arrays_in_any_order_of_memory_are_taken(rig: Rig) -> None:
    with rig.open() as session:
        fed = {"image": np.asfortranarray(feed()["image"])[:, :, :, ::-1]}
        rig.check(session.run(fed), fed)


def test_the_caller_owns_what_it_gets(rig: Rig) -> None:
    with rig.open() as session:
        first = session.run(feed())
        kept = {name: array.copy() for name, array in first.items()}
        session.run(feed())
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


def test_larger_batches_than_any_profile_takes_are_run_in_equal_parts(rig: Rig) -> None:
    with rig.open() as session:
        fed = feed(10, 24, 30)
        rig.check(session.run(fed), fed)
        assert rig.cuda.calls.count("enqueue") == 3
        fed = feed(9, 36, 36)
        rig.check(session.run(fed), fed)


# Shapes.


@pytest.mark.parametrize("shape", [(1, 24, 49), (1, 23, 24), (2, 48, 48), (5, 24, 60), (0, 24, 24)])
def test_a_shape_outside_the_profiles_is_told_with_them(
    rig: Rig, shape: tuple[int, int, int]
) -> None:
    with rig.open() as session:
        with pytest.raises(VggspecError) as error:
            session.run(feed(*shape))
        with pytest.raises(VggspecError):
            list(session.stream([feed(*shape)]))
        what = error.value.reports[0].what
        assert what.code == "VGG634"
        assert what.title() == f"the engine takes no input of {'x'.join(map(str, shape))}"
        assert "  1x24x24 to 4x24x48\n  1x24x24 to 4x48x24\n" in (what.help() or "")
        rig.check(session.run(fed := feed()), fed)
    rig.cuda.check_empty()


def test_many_profiles_are_not_all_told(tmp_path: Path) -> None:
    profiles = tuple(Profile((1, n, n), (1, n, n), (1, n, n)) for n in range(24, 64, 2))
    rig = Rig(tmp_path / "many", "11.4", profiles=profiles)
    with rig.open() as session, pytest.raises(VggspecError) as error:
        session.run(feed(1, 100, 100))
    assert "and 8 more ranges" in (error.value.reports[0].what.help() or "")


def test_feeds_are_checked_first(rig: Rig) -> None:
    with rig.open() as session:
        with pytest.raises(ValueError, match="got none"):
            session.run({})
        with pytest.raises(ValueError, match="got float64"):
            list(session.stream([{"image": feed()["image"].astype(np.float64)}]))


def test_the_shape_longest_out_of_use_makes_room(rig: Rig) -> None:
    widths = [24, 28, 32, 36]
    with rig.open(max_buckets=3) as session:
        for width in widths[:3] * 3:
            session.run(feed(1, 24, width))
        assert len(rig.trt.contexts) == 3
        assert len(rig.cuda.graphs) == 3
        session.run(feed(1, 24, widths[0]))
        session.run(feed(1, 24, widths[3]))
        assert set(session.with_graph) == {(1, 3, 24, 24), (1, 3, 24, 32)}
        assert len(rig.trt.contexts) == 3
        fed = feed(1, 24, widths[1])
        rig.check(session.run(fed), fed)


# Graphs and memory.


def test_the_second_run_is_recorded_and_later_ones_replay(rig: Rig) -> None:
    with rig.open() as session:
        fed = feed()
        kinds = ("enqueue", "capture", "replay")
        for expected in (["enqueue"], ["capture", "enqueue", "replay"], ["replay"], ["replay"]):
            before = len(rig.cuda.calls)
            rig.check(session.run(fed), fed)
            assert [call for call in rig.cuda.calls[before:] if call in kinds] == expected
        assert session.with_graph == ((2, 3, 24, 33),)
        assert session.without_graph == {}


def test_growing_memory_makes_shapes_record_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_session, "GRAIN", 4096)
    small, large = (1, 24, 24), (4, 36, 72)
    with rig.open() as session:
        for shape in [small] * 3 + [large] + [small] * 3 + [large] * 2:
            fed = feed(*shape)
            rig.check(session.run(fed), fed)
        assert rig.cuda.calls.count("capture") == 3
        assert rig.cuda.calls.count("close graph") == 1


def test_shapes_share_one_piece_of_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_session, "GRAIN", 4096)
    with rig.open() as session:
        session.run(feed(4, 36, 72))
        whole = rig.cuda.most_bytes
        for shape in SHAPES:
            session.run(feed(*shape))
        assert rig.cuda.most_bytes == whole
        assert len(rig.cuda.memory) == 1
    assert whole < 4 * 36 * 72 * (SCRATCH_PER_PIXEL + 3 * 4 + 8) + 3 * 4096


def test_a_run_that_cannot_be_recorded_runs_all_the_same(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.trt.refuses.add("execute recorded")
    with rig.open() as session, caplog.at_level(logging.WARNING):
        for _ in range(4):
            fed = feed()
            rig.check(session.run(fed), fed)
        assert session.without_graph == {(2, 3, 24, 33): "operation not permitted"}
        assert session.with_graph == ()
    assert [record.message for record in caplog.records] == [
        "no CUDA graph for inputs of (2, 3, 24, 33): operation not permitted"
    ]
    assert not rig.cuda.graphs


def test_a_driver_that_records_nothing_is_told_too(rig: Rig) -> None:
    rig.cuda.failing["capture"] = 0
    with rig.open() as session:
        for _ in range(3):
            fed = feed()
            rig.check(session.run(fed), fed)
        assert session.without_graph == {(2, 3, 24, 33): "capture failed: out of luck"}


def test_rtx_says_itself_what_cannot_be_recorded(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "small", "rtx-1.7")
    rig.trt.is_capturable = False
    with rig.open() as session:
        for _ in range(3):
            fed = feed()
            rig.check(session.run(fed), fed)
        assert "cannot be recorded" in session.without_graph[2, 3, 24, 33]
    assert "capture" not in rig.cuda.calls


# Streams.


@pytest.mark.parametrize("max_buckets", [1, 4])
@pytest.mark.parametrize("order", ["late", "early", *range(6)])
def test_a_stream_keeps_its_order(
    tmp_path: Path, order: str | int, max_buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while memory moves and shapes make room for others."""
    monkeypatch.setattr(trt_session, "GRAIN", 4096)
    rig = Rig(tmp_path / "small", "11.4", order)
    shapes = [*SHAPES, *[(2, 24, 33)] * 6, *SHAPES, *SHAPES]
    fed = [feed(*shape) for shape in shapes]
    with rig.open(max_buckets=max_buckets) as session:
        for each, arrays in zip(fed, session.stream(iter(fed)), strict=True):
            rig.check(arrays, each)
    rig.cuda.check_empty()
    gc.collect()
    assert rig.trt.misuses == []


@pytest.mark.parametrize("order", ["late", "early", 3, 4])
def test_other_runs_may_come_between(tmp_path: Path, order: str | int) -> None:
    rig = Rig(tmp_path / "small", "11.4", order)
    fed = [feed(2, 24, 30 + i % 3) for i in range(12)]
    with rig.open() as session:
        for each, arrays in zip(fed, session.stream(fed), strict=True):
            rig.check(arrays, each)
            rig.check(session.run(between := feed(3, 36, 60)), between)


def test_large_batches_of_a_stream_are_cut_and_joined(rig: Rig) -> None:
    fed = [feed(n, 24, 24) for n in (1, 9, 4, 13, 2)]
    with rig.open() as session:
        for each, arrays in zip(fed, session.stream(fed), strict=True):
            rig.check(arrays, each)


def test_while_one_computes_the_next_is_given(rig: Rig) -> None:
    """Two feeds are under way before the first result is waited for."""
    asked = []

    def feeds() -> Iterator[dict[str, Any]]:
        for number in range(4):
            asked.append((number, rig.cuda.busy()))
            yield feed()

    with rig.open() as session:
        results = session.stream(feeds())
        next(results)
        assert [number for number, _ in asked] == [0, 1, 2]
        assert [is_busy for _, is_busy in asked] == [False, True, True]
        assert len(list(results)) == 3


def test_an_empty_stream_is_none(rig: Rig) -> None:
    with rig.open() as session:
        assert list(session.stream([])) == []


@pytest.mark.parametrize("how", ["close", "forget", "session first", "feed fails", "device fails"])
def test_a_stream_that_ends_early_leaves_nothing(tmp_path: Path, how: str) -> None:
    rig = Rig(tmp_path / "small", "11.4", "late")

    def feeds() -> Iterator[dict[str, Any]]:
        for number in range(9):
            if how == "feed fails" and number == 4:
                raise KeyError("lost")
            if how == "device fails" and number == 4:
                rig.cuda.failing["download"] = 0
            yield feed(2, 24, 30 + number)

    session = rig.open()
    results = session.stream(feeds())
    next(results)
    if how == "close":
        results.close()
    elif how == "forget":
        del results
        gc.collect()
    elif how == "session first":
        session.close()
        with pytest.raises(ValueError, match="closed"):
            next(results)
        rig.cuda.check_empty()
        return
    else:
        with pytest.raises(KeyError if how == "feed fails" else VggspecError):
            list(results)
    rig.cuda.failing.clear()
    assert not rig.cuda.busy()
    assert len(rig.cuda.memory) == 1, "the stream's own memory is still there"
    fed = feed()
    rig.check(session.run(fed), fed)
    session.close()
    rig.cuda.check_empty()


# Threads.


def test_threads_may_share_a_session(rig: Rig) -> None:
    errors: list[BaseException] = []
    with rig.open(max_buckets=2) as session:

        def run(number: int) -> None:
            try:
                for turn in range(6):
                    fed = feed(1 + number % 3, 24, 24 + (number + turn) % 4)
                    if turn % 3 == 2:
                        (arrays,) = session.stream([fed])
                    else:
                        arrays = session.run(fed)
                    rig.check(arrays, fed)
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    rig.cuda.check_empty()


def test_another_thread_may_close_it(rig: Rig) -> None:
    session = rig.open()
    session.run(feed())
    thread = threading.Thread(target=session.close)
    thread.start()
    thread.join()
    rig.cuda.check_empty()


# Failures.


def test_a_closed_session_says_so(rig: Rig) -> None:
    session = rig.open()
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.run(feed())
    with pytest.raises(ValueError, match="closed"):
        list(session.stream([feed()]))
    rig.cuda.check_empty()


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("context", "no memory for a context"),
        ("profile", "no such profile"),
        ("infer", "the shape of image is open"),
        ("output shape", "the shape of an output depends on more"),
        ("address", "no such tensor"),
        ("execute", "the layers are on strike"),
    ],
)
def test_every_no_of_the_library_is_heard(rig: Rig, refused: str, words: str) -> None:
    with rig.open() as session:
        rig.trt.refuses.add(refused)
        for run in (session.run, lambda fed: list(session.stream([fed]))):
            with pytest.raises(VggspecError) as error:
                run(feed())
            what = error.value.reports[0].what
            assert what.code == "VGG529"
            assert words in what.title()
            assert "b.cpp" not in what.title()
        rig.trt.refuses.clear()
        fed = feed()
        rig.check(session.run(fed), fed)
    rig.cuda.check_empty()
    del error
    gc.collect()
    assert not rig.trt.contexts


def test_a_shape_that_the_library_does_not_take_is_told_with_the_profiles(rig: Rig) -> None:
    rig.trt.refuses.add("shape")
    with rig.open() as session, pytest.raises(VggspecError) as error:
        session.run(feed())
    assert error.value.reports[0].what.code == "VGG634"
    assert "1x24x24 to 4x24x48" in (error.value.reports[0].what.help() or "")
    rig.cuda.check_empty()


def use(session: TrtSession) -> None:
    for shape in SHAPES * 2:
        list(session.stream([feed(*shape)]))
        session.run(feed(*shape))


@pytest.mark.parametrize("call", ["allocate", "pinned", "upload", "download", "synchronize"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_device_that_fails_is_reported_and_may_recover(rig: Rig, call: str, after: int) -> None:
    with rig.open() as session:
        rig.cuda.failing[call] = after
        with refused("out of luck") as error:
            use(session)
        assert error.value.reports[0].what.code == "VGG529"
        if call != "synchronize":
            rig.cuda.check_idle()
        rig.cuda.failing.clear()
        for shape in SHAPES * 3:
            fed = feed(*shape)
            rig.check(session.run(fed), fed)
    rig.cuda.check_empty()


def test_a_device_that_stays_dead_does_not_keep_close_from_ending(rig: Rig) -> None:
    session = rig.open()
    for _ in range(3):
        session.run(feed())
    for call in ("synchronize", "upload", "close"):
        rig.cuda.failing[call] = 0
    with pytest.raises(VggspecError):
        session.run(feed())
    session.close()
    session.close()
    assert not rig.cuda.graphs
    assert not rig.cuda.memory
    gc.collect()
    assert not rig.trt.engines


@pytest.mark.parametrize(
    ("refused", "code", "words"),
    [
        ("deserialize", "VGG633", "this plan is of another world"),
        ("deserialize silently", "VGG633", "it does not say why"),
        ("dtype", "VGG527", "`image` has the type BF16"),
    ],
)
def test_a_plan_that_is_refused_is_reported(rig: Rig, refused: str, code: str, words: str) -> None:
    rig.trt.refuses.add(refused)
    with pytest.raises(VggspecError) as error:
        rig.open()
    assert error.value.reports[0].what.code == code
    assert words in error.value.reports[0].what.title()
    assert "b.cpp" not in error.value.reports[0].what.title()
    rig.cuda.check_empty()


def test_a_refused_plan_tells_both_versions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.trt.refuses.add("deserialize")
    monkeypatch.setattr(flavours, "version", lambda flavour: "10.3.0")
    with pytest.raises(VggspecError) as error:
        rig.open()
    told = error.value.reports[0].what.help() or ""
    assert "TensorRT 11.4.0.106 built it, not TensorRT 10.3.0" in told
    monkeypatch.setattr(flavours, "version", lambda flavour: "11.4.0.106")
    rig.cuda.is_closed = False
    with pytest.raises(VggspecError) as error:
        rig.open()
    assert error.value.reports[0].what.help() == (
        "rebuild it for the GPU of this machine; `vggspec doctor` says how"
    )


def test_a_device_that_fails_at_once_is_reported(rig: Rig) -> None:
    rig.cuda.failing["stream"] = 1
    with refused("stream failed") as error:
        rig.open()
    assert error.value.reports[0].what.code == "VGG527"
    rig.cuda.failing.clear()
    rig.cuda.check_empty()


def test_a_plan_with_other_profiles_than_the_manifest_is_refused(rig: Rig) -> None:
    rewrite(rig.made.path, {"engine.profiles.0.max": [9, 24, 48]})
    with refused("its profiles are not those of the manifest"):
        rig.open()
    rig.cuda.check_empty()


def test_a_changed_plan_is_never_loaded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(rig.made.path)
    plan = rig.made.path / PLAN
    plan.write_bytes(plan.read_bytes()[:-1] + b" ")

    def never(*_: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(rig.trt, "Runtime", never)
    with refused("was changed: its SHA-256 is another") as error:
        TrtSession(bundle, trt=rig.trt, cuda=rig.cuda)
    assert error.value.reports[0].what.code == "VGG524"
    plan.unlink()
    with refused("cannot be read"):
        TrtSession(bundle, trt=rig.trt, cuda=rig.cuda)
    assert rig.cuda.calls == []


def test_a_stripped_plan_is_refused(rig: Rig) -> None:
    rewrite(rig.made.path, {"engine.is_stripped": True})
    with pytest.raises(VggspecError) as error:
        rig.open()
    assert error.value.reports[0].what.code == "VGG632"
    assert "vggspec refit" in (error.value.reports[0].what.help() or "")


def test_only_a_compatible_plan_may_bring_host_code(rig: Rig) -> None:
    with rig.open() as session:
        assert session._plan._loaded.runtime.engine_host_code_allowed is False  # type: ignore[union-attr]
    rewrite(rig.made.path, {"engine.is_version_compatible": True})
    rig.cuda = FakeCuda()
    rig.trt = FakeTrt("11.4", rig.cuda)
    with rig.open() as session:
        assert session._plan._loaded.runtime.engine_host_code_allowed is True  # type: ignore[union-attr]


# The door.


@pytest.fixture
def installed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """As if the library and a device were there."""
    monkeypatch.setattr(flavours, "load", lambda flavour, purpose: rig.trt)
    monkeypatch.setattr(trt_session, "PyCuda", lambda: rig.cuda)
    return rig


def photo(height: int = 40, width: int = 60) -> Any:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(pixels).resize((width, height)))


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (50, 50)])
def test_a_predictor_gives_what_the_reference_gives(installed: Rig, size: tuple[int, int]) -> None:
    path = installed.made.path
    with Predictor(path, device="tensorrt") as engine, Predictor(path, device="cpu") as reference:
        assert engine.device == "cuda"
        for scales in ((24,), (24, 36)):
            ours = engine(photo(*size), scales=scales)
            expected = reference(photo(*size), scales=scales)
            np.testing.assert_allclose(ours.posteriors, expected.posteriors, atol=1e-6)
            for mine, theirs in zip(ours.maps, expected.maps, strict=True):
                np.testing.assert_allclose(mine.posteriors, theirs.posteriors, atol=1e-6)


def test_an_image_outside_the_profiles_is_an_error_of_the_image(
    installed: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(photo(40, 200)).save(path)
    with Predictor(installed.made.path, device="tensorrt") as predictor:
        with pytest.raises(VggspecError) as error:
            predictor(path)
        assert error.value.reports[0].what.code == "VGG634"
        assert error.value.reports[0].path == str(path)


def test_an_engine_is_loaded_only_when_asked_for(installed: Rig) -> None:
    bundle = open_bundle(installed.made.path)
    with pytest.raises(VggspecError) as error:
        open_session(bundle)
    what = error.value.reports[0].what
    assert what.code == "VGG630"
    assert "--device tensorrt" in (what.help() or "")
    assert "--device cpu" in (what.help() or "")
    assert installed.cuda.calls == []
    (bundle.path / REFERENCE).unlink()
    bundle = open_bundle(bundle.path)
    with pytest.raises(VggspecError) as error:
        open_session(bundle)
    assert "--device cpu" not in (error.value.reports[0].what.help() or "")
    with pytest.raises(VggspecError) as error:
        open_session(bundle, "cpu")
    assert error.value.reports[0].what.code == "VGG631"


def test_without_pycuda_the_library_is_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(library: str, purpose: str) -> None:
        raise MissingLibraryError(f"{purpose} needs {library}")

    monkeypatch.setattr(flavours, "load", lambda flavour, purpose: rig.trt)
    monkeypatch.setattr(cuda_module, "require", missing)
    with pytest.raises(MissingLibraryError, match="running a TensorRT engine needs pycuda"):
        open_session(open_bundle(rig.made.path), "tensorrt")


def test_without_the_library_the_extra_is_named(rig: Rig) -> None:
    if "tensorrt" in flavours.installed():
        pytest.skip("TensorRT is installed here")
    with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[trt\]"'):
        open_session(open_bundle(rig.made.path), "tensorrt")


def test_the_real_rtx_says_why_it_loads_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    made = make_plan(tmp_path / "small", version="rtx-1.7")
    cuda = FakeCuda()
    with pytest.raises(VggspecError) as error:
        TrtSession(open_bundle(made.path), cuda=cuda)
    what = error.value.reports[0].what
    assert what.code == "VGG633"
    assert "does not say why" not in what.title()
    assert "runtime.cpp" not in what.title()
    assert "TensorRT-RTX 11.4.0.106 built it" in (what.help() or "")
    cuda.check_empty()


# The recorded library itself.


@pytest.mark.parametrize("version", LISTINGS)
def test_the_recorded_library_has_no_names_of_its_own(version: str) -> None:
    names = listing(version)
    trt = FakeTrt(version, FakeCuda())
    for kind, made in trt.classes.items():
        ours = {name for name in vars(made) if not name.startswith("_") and name != "names"}
        everywhere = set().union(*(listing(each).get(kind, []) for each in LISTINGS))
        assert ours <= everywhere, kind
        assert json.dumps(sorted(names[kind]))
    assert PROFILES
