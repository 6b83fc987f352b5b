"""Engines that compare pictures: two inputs of one shape, on a recorded library and device."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nets import net, random_weights
from tests.refusals import refused
from tests.runtime.tensorrt.fake import FakeCuda, FakeTrt, as_plan, make_plan
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import MANIFEST, PLAN, REFERENCE, Manifest
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.profile import Profile
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.tensorrt import library as flavours
from vggspec.runtime.tensorrt import session as trt_session
from vggspec.runtime.tensorrt.session import TrtSession

TEXT = """\
net small
input 32x32 RGB(mean 120 115 100)
conv3-4
maxpool
conv3-6
outputs conv1_1 conv2_1
"""
PROFILES = (
    Profile((1, 24, 24), (1, 24, 32), (3, 24, 48)),
    Profile((1, 24, 24), (1, 32, 24), (3, 48, 24)),
)
VERSIONS = ("10.0.1", "11.4", "rtx-1.7")


class Rig:
    """A bundle, the recorded parts, and what the answers must be."""

    def __init__(self, folder: Path, version: str = "11.4", contract: Any = "float") -> None:
        lowered = net(TEXT)
        weights = random_weights(lowered, folder / "w.safetensors")
        options = CompileOptions(distance=True, single_file=True, contract=contract)
        self.path = folder / "b"
        written = write_bundle(lowered, weights, self.path, options)
        plain = replace(written.manifest, options=replace(options, single_file=False))
        self.manifest: Manifest = as_plan(self.path, plain, version=version, profiles=PROFILES)
        self.cuda = FakeCuda("late")
        self.trt = FakeTrt(version, self.cuda)
        self.truth = OrtSession(self.path / REFERENCE, "cpu", 1)

    def open(self) -> TrtSession:
        return TrtSession(open_bundle(self.path), trt=self.trt, cuda=self.cuda)

    def feed(self, n: int, rows: int, columns: int, seed: int = 0) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        if self.manifest.input.contract == "raw":
            pixels = rng.integers(0, 256, (2, n, rows, columns, 3), np.uint8)
        else:
            pixels = rng.normal(0, 80, (2, n, 3, rows, columns)).astype(np.float32)
        return {"first": pixels[0], "second": pixels[1]}

    def check(self, found: Any, fed: dict[str, Any]) -> None:
        expected = self.truth.run(fed)["distance"]
        assert found.keys() == {"distance"}
        assert found["distance"].shape == (len(fed["first"]),)
        np.testing.assert_allclose(found["distance"], expected, rtol=1e-5)


@pytest.fixture(params=VERSIONS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return Rig(tmp_path, request.param)


SHAPES = [(1, 24, 24), (3, 24, 41), (2, 48, 24), (7, 24, 33)]


def test_pairs_of_every_shape_are_compared_again_and_again(rig: Rig) -> None:
    with rig.open() as session:
        assert [port.name for port in session.inputs] == ["first", "second"]
        for seed, shape in enumerate(SHAPES * 3):
            fed = rig.feed(*shape, seed=seed)
            rig.check(session.run(fed), fed)
    assert "replay" in rig.cuda.calls
    rig.cuda.check_empty()


def test_a_stream_of_pairs(rig: Rig) -> None:
    every = [rig.feed(*shape, seed=seed) for seed, shape in enumerate(SHAPES * 2)]
    with rig.open() as session:
        for found, fed in zip(session.stream(every), every, strict=True):
            rig.check(found, fed)
    rig.cuda.check_empty()


def test_raw_pixels(tmp_path: Path) -> None:
    rig = Rig(tmp_path, contract="raw")
    with rig.open() as session:
        for shape in SHAPES:
            fed = rig.feed(*shape)
            rig.check(session.run(fed), fed)


def test_pictures_of_two_shapes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with rig.open() as session:
        fed = rig.feed(1, 24, 24) | {"second": rig.feed(1, 24, 25)["second"]}
        with pytest.raises(
            ValueError, match=r"different shapes: \(1, 3, 24, 24\), \(1, 3, 24, 25\)"
        ):
            session.run(fed)
        with refused("VGG634"):
            session.run(rig.feed(1, 60, 60))


def test_a_plan_whose_inputs_have_profiles_of_their_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.trt.refuses.add("one profile for all")
    with refused("its inputs have different shapes in profile 0"):
        rig.open()


def test_a_plan_of_pairs_for_a_net_of_one_picture(tmp_path: Path) -> None:
    made = make_plan(tmp_path / "small")
    rig = Rig(tmp_path)
    shutil.copy(rig.path / PLAN, made.path / PLAN)
    entry = file_entry(made.path, PLAN)
    files = tuple(entry if each.path == PLAN else each for each in made.manifest.files)
    (made.path / MANIFEST).write_text(replace(made.manifest, files=files).to_json(), "utf-8")
    with refused("it does not have 1 input of images"):
        TrtSession(open_bundle(made.path), trt=rig.trt, cuda=rig.cuda)


def test_distances_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    monkeypatch.setattr(flavours, "load", lambda flavour, purpose: rig.trt)
    monkeypatch.setattr(trt_session, "PyCuda", lambda: rig.cuda)
    rng = np.random.default_rng(2)
    first, second, large = (
        rng.integers(0, 256, (*size, 3), np.uint8) for size in ((24, 40), (24, 40), (24, 60))
    )
    with Predictor(rig.path, device="tensorrt") as engine, Predictor(rig.path, device="cpu") as cpu:
        assert engine.distance(first, second) == pytest.approx(cpu.distance(first, second))
        assert engine.distance(first, first) == 0
        with refused("VGG634"):
            engine.distance(large, large)
