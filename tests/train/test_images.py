"""Image folders: what is checked before anything is opened, and what becomes of bad images."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.folders import picture, tiny, write_folder
from vggspec.catalogue import data
from vggspec.diagnostic import VggspecError
from vggspec.runtime.preprocess import read_image, rescale
from vggspec.train.images import BadImageError, LeftOut, decode, open_folder

NETWORK = tiny().network


def mistakes(root: Path) -> list[str]:
    with pytest.raises(VggspecError) as caught:
        open_folder(root, NETWORK)
    return [one.what.code for one in caught.value.reports]


def test_classes_are_the_sorted_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, train=2, val=1)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "red" / ".DS_Store").touch()
    found = open_folder(tmp_path, NETWORK)
    assert found.classes == ("blue", "green", "red")
    assert found.train.labels == (0, 0, 1, 1, 2, 2)
    assert [Path(path).parent.name for path in found.val.paths] == ["blue", "green", "red"]


def test_the_fingerprint_tells_other_data(tmp_path: Path) -> None:
    write_folder(tmp_path, train=2, val=1)
    before = open_folder(tmp_path, NETWORK).fingerprint
    assert open_folder(tmp_path, NETWORK).fingerprint == before
    (tmp_path / "val" / "red" / "0.png").rename(tmp_path / "val" / "red" / "1.png")
    renamed = open_folder(tmp_path, NETWORK).fingerprint
    with (tmp_path / "val" / "red" / "1.png").open("ab") as file:
        file.write(b"\0")
    assert len({before, renamed, open_folder(tmp_path, NETWORK).fingerprint}) == 3


def test_mistakes_are_found_by_names_alone(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "nowhere") == [data.NoData.code]
    for split in ("train", "val"):
        for name in ("blue", "green", "red"):
            (tmp_path / split / name).mkdir(parents=True)
    assert mistakes(tmp_path) == [data.EmptyClass.code] * 3
    for name in ("blue", "green", "red"):
        (tmp_path / "train" / name / "0.png").touch()
    assert mistakes(tmp_path) == [data.NoData.code]  # val holds no images
    (tmp_path / "val" / "red" / "0.png").touch()
    open_folder(tmp_path, NETWORK)
    (tmp_path / "val" / "violet").mkdir()
    (tmp_path / "train" / "yellow").mkdir()
    assert sorted(mistakes(tmp_path)) == [data.ClassMismatch.code, data.UnlikeClasses.code]


def test_class_mismatch_names_the_last_layer(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "yellow").mkdir()
    with pytest.raises(VggspecError, match="`fc3` has 3 outputs"):
        open_folder(tmp_path, NETWORK)


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("cut.jpg", "cut.png", "empty.jpg", "text.png")}
    picture((90, 90, 90), (64, 64), 0).save(folder / "cut.jpg")
    picture((90, 90, 90), (64, 64), 0).save(folder / "cut.png")
    for name in ("cut.jpg", "cut.png"):
        files[name].write_bytes(files[name].read_bytes()[:-600])
    files["empty.jpg"].touch()
    files["text.png"].write_text("not an image")
    # A PNG whose header promises 60 000 × 60 000 pixels.
    bomb = folder / "bomb.png"
    Image.new("1", (1, 1)).save(bomb)
    raw = bytearray(bomb.read_bytes())
    raw[16:24] = (60_000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    bomb.write_bytes(raw)
    return {**files, "bomb.png": bomb, "gone.png": folder / "gone.png"}


def test_bad_images_are_told_from_good_ones(tmp_path: Path) -> None:
    for name, path in bad_files(tmp_path).items():
        with pytest.raises(BadImageError) as caught:
            decode(str(path), "RGB")
        assert str(caught.value), name


def test_unusual_images_are_read(tmp_path: Path) -> None:
    image = picture((200, 100, 50), (30, 40), 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "misnamed.jpg", "PNG")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert decode(str(tmp_path / "turned.jpg"), "RGB").shape == (40, 30, 3)
    np.testing.assert_array_equal(decode(str(tmp_path / "misnamed.jpg"), "RGB"), image)
    assert decode(str(tmp_path / "cmyk.jpg"), "RGB").shape == (30, 40, 3)
    gray = decode(str(tmp_path / "deep.png"), "gray")
    np.testing.assert_array_equal(gray[..., 0], image.convert("L"))
    np.testing.assert_array_equal(
        decode(str(tmp_path / "misnamed.jpg"), "BGR"), np.asarray(image)[..., ::-1]
    )


def test_a_jpeg_may_be_scaled_while_it_is_decoded(tmp_path: Path) -> None:
    path = str(tmp_path / "large.jpg")
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    coarse.resize((1600, 1200), Image.Resampling.BICUBIC).save(path, quality=92)
    small = decode(path, "RGB", at_least=200)
    assert small.shape == (600, 800, 3)  # no side below twice what is asked for
    assert decode(path, "RGB", at_least=700).shape == (1200, 1600, 3)
    plain = rescale(read_image(path), 200).astype(int)
    difference = np.abs(rescale(small, 200) - plain)
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def test_one_in_a_hundred_may_be_bad(tmp_path: Path) -> None:
    left_out = LeftOut(200, tmp_path)
    left_out.add("a.png", "it is empty")
    left_out.add("b.png", "it is damaged")
    left_out.add("a.png", "it is empty")  # in the next epoch
    assert len(left_out) == 2
    assert left_out.first() == ("a.png: it is empty", "b.png: it is damaged")
    with pytest.raises(VggspecError, match="3 of 200 images cannot be read"):
        left_out.add("c.png", "it is damaged")
