"""The front door: what ``import vggspec`` offers."""

from pathlib import Path

import numpy as np
import pytest

import vggspec
from tests.nets import SMALL, net, random_weights
from tests.refusals import told
from vggspec.bundle.opening import open_bundle


def test_from_a_spec_to_an_answer(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "w.safetensors")
    spec = str(tmp_path / "small.vgg")
    out = vggspec.compile(spec, weights=tmp_path / "w.safetensors", out=tmp_path / "b")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    with vggspec.load(out, device="cpu") as predictor:
        prediction = predictor(image)
    assert prediction.posteriors.shape == (10,)
    assert prediction.posteriors.sum() == pytest.approx(1)
    assert len(prediction.top(3)) == 3


def test_a_bundle_of_another_stride_and_layer(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "w.safetensors")
    spec, weights = str(tmp_path / "small.vgg"), tmp_path / "w.safetensors"
    out = vggspec.compile(spec, weights=weights, out=tmp_path / "b", stride=2, pool="ceil")
    manifest = open_bundle(out).manifest
    assert (manifest.options.stride, manifest.pool, manifest.stride) == (2, "ceil", (2, 2))
    vggspec.compile(spec, weights=weights, out=out, layer="conv2_1")
    assert open_bundle(out).manifest.result.channels == 16


def test_several_nets_in_one_graph(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    nets, alone = [], []
    for seed in (0, 1):
        (tmp_path / f"{seed}.vgg").write_text(SMALL)
        weights = tmp_path / f"{seed}.safetensors"
        random_weights(net(SMALL), weights, seed)
        nets.append((str(tmp_path / f"{seed}.vgg"), weights))
        bundle = vggspec.compile(nets[-1][0], weights=weights, out=tmp_path / f"b{seed}")
        with vggspec.load(bundle, device="cpu") as predictor:
            alone.append(predictor(image, scales=(40, 50), flip=True).posteriors)
    specs, files = zip(*nets, strict=True)
    fused = vggspec.compile(specs, weights=files, out=tmp_path / "fused", protocol=True, flip=True)
    with vggspec.load(fused, device="cpu") as predictor:
        posteriors = predictor(image, scales=(40, 50)).posteriors
    np.testing.assert_allclose(posteriors, np.mean(alone, axis=0), atol=1e-4)


def test_a_mistake_is_an_exception_that_reads_well(tmp_path: Path) -> None:
    (tmp_path / "bad.vgg").write_text("conv3-8\nmaxpol\n")
    with pytest.raises(vggspec.VggspecError) as caught:
        vggspec.network(str(tmp_path / "bad.vgg"))
    assert "did you mean `maxpool`?" in told(caught.value)
    assert [report.what.code for report in caught.value.reports] == ["VGG101"]


def test_everything_public_is_documented() -> None:
    for name in vggspec.__all__:
        if name != "__version__":
            assert getattr(vggspec, name).__doc__, name
