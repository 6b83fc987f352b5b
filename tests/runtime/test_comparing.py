"""Two pictures through a bundle that compares them: what is taken, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import vggspec
from tests.nets import net, random_weights
from tests.refusals import refused
from tests.runtime.bundles import make
from vggspec.runtime.predictor import Predictor

TEXT = """\
net small
input 32x32 {color}
conv3-4
maxpool
{more}
"""


TAPPED = "conv3-6\noutputs conv1_1 conv2_1"


def bundle(folder: Path, color: str = "RGB", more: str = TAPPED) -> Path:
    text = TEXT.format(color=color, more=more)
    (folder / "small.vgg").write_text(text)
    weights = random_weights(net(text, "small.vgg"), folder / "w.safetensors")
    vggspec.compile(folder / "small.vgg", weights=weights.path, out=folder / "b", distance=True)
    return folder / "b"


@pytest.fixture(scope="module")
def compares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("compares"), "RGB(mean 120 115 100)")


@pytest.fixture(scope="module")
def predictor(compares: Path) -> Iterator[Predictor]:
    with vggspec.load(compares, device="cpu", threads=1) as found:
        yield found


def picture(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_pictures_of_every_kind(predictor: Predictor, tmp_path: Path) -> None:
    first, second = picture(19, 24, 3), picture(19, 24, 3, seed=1)
    expected = predictor.distance(first, second)
    assert expected > 0
    Image.fromarray(second).save(tmp_path / "second.png")
    tensor = torch.from_numpy(second).permute(2, 0, 1)
    others: list[Any] = [
        tmp_path / "second.png",
        (tmp_path / "second.png").read_bytes(),
        Image.fromarray(second),
        tensor,
        tensor / 255,
    ]
    for other in others:
        assert predictor.distance(first, other) == expected


def test_gray_pictures(predictor: Predictor, tmp_path: Path) -> None:
    """A net in colour sees a gray picture in three equal channels; a gray net sees colours gray."""
    first, second = picture(16, 16), picture(16, 16, seed=1)
    in_colour = [np.repeat(each[..., None], 3, axis=2) for each in (first, second)]
    assert predictor.distance(first, second) == predictor.distance(*in_colour)
    with vggspec.load(bundle(tmp_path, "gray"), device="cpu") as gray:
        assert gray.distance(first, second) == gray.distance(*in_colour) > 0


def test_pictures_of_two_sizes(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(picture(16, 24, 3)).save(tmp_path / "second.png")
    words = "VGG719.*the first picture has 24 × 16 pixels, the second 16 × 24"
    with refused(f"(?s){words}.*second.png.*crop or rescale"):
        predictor.distance(picture(24, 16, 3), tmp_path / "second.png")


def test_pictures_that_are_too_small_or_too_large(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = predictor.manifest.input.size
    assert predictor.distance(picture(*least, 3), picture(*least, 3)) == 0
    small = picture(least[0] - 1, 40, 3)
    with refused(f"VGG720.*have {least[0] - 1} × 40 pixels.*{least[0]} × {least[1]} or more"):
        predictor.distance(small, small)
    monkeypatch.setattr("vggspec.runtime.pair_net.MAX_RESCALED_PIXELS", 24 * 24)
    assert predictor.distance(picture(24, 24, 3), picture(24, 24, 3)) == 0
    with refused("VGG721.*24 × 25 pixels, more than 576"):
        predictor.distance(picture(24, 25, 3), picture(24, 25, 3))


def test_sizes_at_which_branches_do_not_meet(tmp_path: Path) -> None:
    made = bundle(tmp_path, more="[conv3-6/2 + conv2-6/2(pad 0)]")
    with vggspec.load(made, device="cpu") as found:
        assert found.distance(picture(16, 20, 3), picture(16, 20, 3)) == 0
        odd = picture(18, 20, 3)
        with refused("(?s)VGG262.*18 × 20.*crop it, or rescale it: 17 × 20 and 20 × 20 fit"):
            found.distance(odd, odd)


def test_what_cannot_be_read_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with refused("(?s)VGG510.*gone.png"):
        predictor.distance(tmp_path / "gone.png", picture(16, 16, 3))
    with pytest.raises(TypeError):
        predictor.distance(3, picture(16, 16, 3))  # type: ignore[arg-type]


def test_another_bundle_compares_nothing(tmp_path: Path) -> None:
    made = make(tmp_path / "b")
    words = "(?s)VGG718.*the net gives posteriors.*--distance"
    with vggspec.load(made.path, device="cpu") as found, refused(words):
        found.distance(picture(16, 16, 3), picture(16, 16, 3))
    with refused(words):
        next(vggspec.distance(made.path, picture(16, 16, 3), picture(16, 16, 3)))


def test_many_from_one(compares: Path, predictor: Predictor, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        Image.fromarray(picture(16, 24, 3, seed=seed)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    reference = picture(16, 24, 3)
    bad: list[vggspec.VggspecError] = []
    found = list(vggspec.distance(compares, reference, tmp_path, device="cpu", on_error=bad.append))
    assert [each.file for each in found] == [str(tmp_path / f"{name}.png") for name in "ab"]
    for each in found:
        assert each.file is not None
        assert each.distance == predictor.distance(reference, each.file)
    assert [error.reports[0].path for error in bad] == [str(tmp_path / "c.png")]
    with refused("c.png"):
        list(vggspec.distance(compares, reference, tmp_path, device="cpu"))
