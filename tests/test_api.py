"""The front door: what ``import vggspec`` offers."""

from pathlib import Path

import numpy as np
import pytest

import vggspec
from tests.nets import SMALL, net, random_weights


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


def test_a_mistake_is_an_exception_that_reads_well(tmp_path: Path) -> None:
    (tmp_path / "bad.vgg").write_text("conv3-8\nmaxpol\n")
    with pytest.raises(vggspec.VggspecError) as caught:
        vggspec.network(str(tmp_path / "bad.vgg"))
    assert "did you mean `maxpool`?" in str(caught.value)
    assert [report.what.code for report in caught.value.reports] == ["VGG101"]


def test_everything_public_is_documented() -> None:
    for name in vggspec.__all__:
        if name != "__version__":
            assert getattr(vggspec, name).__doc__, name
