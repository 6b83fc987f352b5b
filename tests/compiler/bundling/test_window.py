"""Nets whose padding gives more positions than an image has: their bundles can be opened."""

from pathlib import Path

import pytest

import vggspec
from tests.nets import net, random_weights
from vggspec.bundle.opening import open_bundle


@pytest.mark.parametrize(
    ("text", "keep_map"),
    [
        ("conv3-4(pad 2) conv1-2", False),
        ("conv2-4(pad 1) conv1-2 gap soft-max", True),
        ("maxpool(pad 1) conv3-2 gap FC-3 soft-max", True),
    ],
)
def test_what_a_position_sees_is_at_least_a_pixel(
    text: str, tmp_path: Path, *, keep_map: bool
) -> None:
    spec = f"input 16x16 RGB(mean 0)\n{text}\n"
    (tmp_path / "a.vgg").write_text(spec)
    random_weights(net(spec), tmp_path / "w.safetensors")
    vggspec.compile(
        tmp_path / "a.vgg",
        weights=tmp_path / "w.safetensors",
        out=tmp_path / "b",
        keep_map=keep_map,
    )
    assert min(open_bundle(tmp_path / "b", deep=True).manifest.window) >= 1
    assert vggspec.verify(tmp_path / "b").passed
