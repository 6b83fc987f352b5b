"""The TensorRT session on a real device: each flavour that is installed, built and run here."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.engines import skip_unless_built
from tests.nets import net, random_weights
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.profile import BatchShape
from vggspec.cli import run
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.tensorrt import library as flavours
from vggspec.runtime.tensorrt.session import TrtSession
from vggspec.studies.verification.tolerance import default_tolerance

pytestmark = pytest.mark.gpu

SPEC = ROOT / "specs" / "digits.vgg"
TOLERANCE = default_tolerance("fp32")


@dataclass(frozen=True)
class Built:
    bundle: Bundle
    truth: OrtSession

    def feed(self, shape: BatchShape, seed: int = 0) -> dict[str, Any]:
        images, rows, columns = shape
        rng = np.random.default_rng(seed)
        return {"image": rng.standard_normal((images, 1, rows, columns)).astype(np.float32)}

    def shapes(self) -> list[BatchShape]:
        """The corners and the middle of every profile, landscape and portrait."""
        facts = self.bundle.manifest.engine
        assert facts is not None
        return [shape for p in facts.profiles for shape in (p.min, p.opt, p.max)]

    def check(self, found: Any, fed: dict[str, Any]) -> None:
        for name, expected in self.truth.run(fed).items():
            assert found[name].shape == expected.shape
            far = np.abs(found[name] - expected).max() / max(1.0, np.abs(expected).max())
            assert far <= TOLERANCE, name


@pytest.fixture(scope="module", params=list(flavours.FLAVOURS))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    flavour = request.param
    skip_unless_built(flavour)
    folder = tmp_path_factory.mktemp(flavour)
    weights = folder / "digits.safetensors"
    random_weights(net(SPEC.read_text("utf-8")), weights)
    out = folder / "engine"
    options = ["--trt", "--trt-flavor", flavour, "--map", "-o", out]
    assert run(["compile", str(SPEC), "--weights", str(weights), *map(str, options)]) == 0
    bundle = open_bundle(out)
    assert bundle.reference is not None
    return Built(bundle, OrtSession(bundle.reference, "cpu"))


@pytest.fixture
def session(built: Built) -> Iterator[TrtSession]:
    with TrtSession(built.bundle) as session:
        yield session


def test_every_profile_is_answered(built: Built, session: TrtSession) -> None:
    for turn in range(4):
        for shape in built.shapes():
            fed = built.feed(shape, turn)
            built.check(session.run(fed), fed)


def test_graphs_change_no_bit(built: Built, session: TrtSession) -> None:
    with TrtSession(built.bundle, use_graphs=False) as plain:
        for shape in built.shapes():
            fed = built.feed(shape)
            expected = plain.run(fed)
            for _ in range(4):
                for name, array in session.run(fed).items():
                    np.testing.assert_array_equal(array, expected[name])
        assert plain.with_graph == ()
    assert session.without_graph == {}
    assert session.with_graph


def test_a_stream_gives_what_single_runs_give(built: Built, session: TrtSession) -> None:
    fed = [built.feed(shape, seed) for seed in range(4) for shape in built.shapes()]
    for each, arrays in zip(fed, session.stream(iter(fed)), strict=True):
        built.check(arrays, each)
    results = session.stream(iter(fed))
    next(results)
    results.close()
    built.check(session.run(fed[0]), fed[0])


def test_few_buckets_serve_many_shapes(built: Built) -> None:
    with TrtSession(built.bundle, max_buckets=2) as session:
        for width in [38, 40, 44, 38, 76, 40, 38, 38, 38]:
            fed = built.feed((2, 38, width))
            built.check(session.run(fed), fed)


def test_threads_share_a_session_beside_torch(built: Built, session: TrtSession) -> None:
    """Which uses the same primary context, and allocates while graphs are recorded."""
    import torch

    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                fed = built.feed((1 + number % 3, 38, 40 + turn % 3), turn)
                built.check(session.run(fed), fed)
                numbers = torch.full((1 << 16,), float(turn), device="cuda")
                assert float(numbers.sum()) == turn * (1 << 16)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_close_gives_the_memory_back(built: Built) -> None:
    import torch

    def use(session: TrtSession) -> None:
        for _ in range(3):
            session.run(built.feed((8, 38, 76)))

    with TrtSession(built.bundle) as session:
        use(session)
    free, _ = torch.cuda.mem_get_info()
    for _ in range(5):
        with TrtSession(built.bundle) as session:
            use(session)
        session.close()
    left, _ = torch.cuda.mem_get_info()
    assert left >= free - (8 << 20)
    with pytest.raises(ValueError, match="closed"):
        session.run(built.feed((1, 38, 38)))


def test_a_shape_outside_the_profiles_is_told(built: Built, session: TrtSession) -> None:
    with pytest.raises(VggspecError) as error:
        session.run(built.feed((1, 38, 200)))
    assert error.value.reports[0].what.code == "VGG634"


def test_a_predictor_gives_what_the_reference_gives(built: Built) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (60, 90), dtype=np.uint8)
    path = built.bundle.path
    with Predictor(path, device="tensorrt") as engine, Predictor(path, device="cpu") as reference:
        found, expected = engine(image), reference(image)
    np.testing.assert_allclose(found.posteriors, expected.posteriors, atol=TOLERANCE)


@pytest.mark.parametrize("flavour", list(flavours.FLAVOURS))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_that_compares_pictures(flavour: str, precision: str, tmp_path: Path) -> None:
    skip_unless_built(flavour)
    text = "net pairs\ninput 32x32 RGB\nconv3-8 conv3-8 maxpool conv3-16\noutputs conv1_2 conv2_1"
    spec, weights, out = (tmp_path / name for name in ("p.vgg", "p.safetensors", "engine"))
    spec.write_text(text)
    random_weights(net(text), weights)
    options = ["--trt", "--trt-flavor", flavour, "--precision", precision, "--distance"]
    profile = ["--profile", "1x32x32,1x32x48,4x64x64"]
    assert (
        run(["compile", str(spec), "--weights", str(weights), *options, *profile, "-o", str(out)])
        == 0
    )
    bundle = open_bundle(out)
    assert bundle.reference is not None
    truth = OrtSession(bundle.reference, "cpu")
    rng = np.random.default_rng(0)
    with TrtSession(bundle) as session:
        for shape in [(1, 3, 32, 32), (4, 3, 64, 64), (6, 3, 32, 50)] * 3:
            pictures = rng.normal(0, 60, (2, *shape)).astype(np.float32)
            fed = {"first": pictures[0], "second": pictures[1]}
            (found,), (expected,) = session.run(fed).values(), truth.run(fed).values()
            np.testing.assert_allclose(found, expected, rtol=2e-5 if precision == "fp32" else 1e-2)
    pixels = rng.integers(0, 256, (2, 40, 50, 3), np.uint8)
    with Predictor(out, device="tensorrt") as engine, Predictor(out, device="cpu") as reference:
        assert engine.distance(*pixels) == pytest.approx(reference.distance(*pixels), rel=1e-2)
