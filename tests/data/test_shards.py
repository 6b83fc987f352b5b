"""Shards against webdataset itself: what it writes and reads, and what no shard should be."""

import gc
import gzip
import io
import json
import pickle
import re
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from tests.conftest import ROOT
from tests.refusals import refused
from tests.training.folders import HUES, picture, tiny, write_folder
from vggspec.base.catalogue import data
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.data import cache, shards
from vggspec.data.decode import BadImageError, decode
from vggspec.data.labelled import open_labelled
from vggspec.training.augment import Crop, TrainCrops
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.images import Images
from vggspec.training.order import Ticket

NETWORK = tiny().network


def encoded(label: int, seed: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture(list(HUES.values())[label], (20, 24), seed).save(file, kind)
    return file.getvalue()


def write_shards(root: Path, train: int = 30, val: int = 9) -> Path:
    """Shards of seven samples as webdataset writes them."""
    for split, number in (("train", train), ("val", val)):
        (root / split).mkdir(parents=True)
        pattern = str(root / split / "%06d.tar")
        with webdataset.ShardWriter(pattern, maxcount=7, verbose=0) as writer:
            for i in range(number):
                kind = ("png", "JPG", "webp")[i % 3]
                image = encoded(i % 3, i, {"JPG": "JPEG"}.get(kind, kind))
                sample = {"__key__": f"some/{i:04}", kind: image, "cls": i % 3}
                writer.write(sample | {"json": {"i": i}, "pyd": print})
    return root


def write_tar(path: Path, files: list[tuple[str, bytes]], **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_few(root: Path, files: list[tuple[str, bytes]] | None = None) -> Path:
    """Three good samples in each split, and others after them."""
    good = [
        pair
        for label in range(3)
        for pair in ((f"{label}.png", encoded(label, label)), (f"{label}.cls", b"%d" % label))
    ]
    write_tar(root / "train" / "0.tar", good + (files or []))
    write_tar(root / "val" / "0.tar", good)
    return root


def mistake(root: Path) -> data.Diagnostic:
    with pytest.raises(VggspecError) as caught:
        open_data(root, NETWORK)
    assert len(caught.value.reports) == 1
    return caught.value.reports[0].what


def read_by_webdataset(paths: list[Path]) -> list[dict[str, Any]]:
    """Its samples; it leaves it to the collector to close files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        found = list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))
        gc.collect()
        return found


def samples(found: DataSet) -> list[tuple[str, bytes, int]]:
    split = found.train
    return [
        (split.name(index), split.read(index), int(split.labels[index]))
        for index in range(len(split))
    ]


def test_samples_are_those_of_webdataset(tmp_path: Path) -> None:
    write_shards(tmp_path)
    theirs = read_by_webdataset(sorted((tmp_path / "train").iterdir()))
    assert len(theirs) == 30
    for _ in range(2):  # written to the cache, and read from it
        ours = samples(open_data(tmp_path, NETWORK))
        for sample, (name, content, label) in zip(theirs, ours, strict=True):
            kind = next(kind for kind in shards.IMAGES if kind in sample)
            shard, image = name.split(": ")
            assert shard == sample["__url__"]
            assert image.lower() == f"{sample['__key__']}.{kind}"
            assert content == sample[kind]
            assert label == int(sample["cls"])


def test_the_guide_writes_shards_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = open_data(write_folder(tmp_path / "digits"), NETWORK)
    guide = (ROOT / "docs" / "training.md").read_text("utf-8")
    programs = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (snippet,) = (program for program in programs if "ShardWriter" in program)
    exec(snippet, {})
    written = open_data(tmp_path / "shards", NETWORK)
    assert written.classes == folder.classes
    for split, other in ((written.train, folder.train), (written.val, folder.val)):
        np.testing.assert_array_equal(split.labels, other.labels)
        for index in range(len(other)):
            assert split.read(index) == other.read(index)


def test_samples_that_other_tools_write_are_read_alike(tmp_path: Path) -> None:
    """Long names, folders, links, files without a sample, two images, more dots, upper case."""
    image = encoded(0, 7)
    long = "long/" * 50
    files = [
        ("__index__/meta.json", b"{}"),
        ("__meta__", b""),
        ("README", b"no sample"),
        (f"{long}a.seg.png", b"not this one"),
        (f"{long}a.cls", b"1\n"),
        (f"{long}a.PNG", image),
        ("b.webp", b"nor this"),
        ("b.jpeg", image),
        ("b.cls", b"2"),
    ]
    for number, kind in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        root = tmp_path / str(number)
        write_few(root, files)
        with tarfile.open(root / "train" / "0.tar", "a", format=kind) as tar:
            link = tarfile.TarInfo("c.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
            folder = tarfile.TarInfo("d.png")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        ours = samples(open_data(root, NETWORK))
        assert [content for _, content, _ in ours[3:]] == [image, image]
        assert [label for _, _, label in ours] == [0, 1, 2, 1, 2]
        for sample, (_, content, label) in zip(
            read_by_webdataset([root / "train" / "0.tar"]), ours, strict=True
        ):
            assert content == next(sample[kind] for kind in shards.IMAGES if kind in sample)
            assert label == int(sample["cls"])


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("unpickled")

    write_shards(tmp_path)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    assert len(samples(open_data(tmp_path, NETWORK))) == 30


def test_classes_have_names_or_numbers(tmp_path: Path) -> None:
    write_shards(tmp_path)
    assert open_data(tmp_path, NETWORK).classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("blue\ngreen \r\nrouge écarlate\n\n", "utf-8")
    assert open_data(tmp_path, NETWORK).classes == ("blue", "green", "rouge écarlate")


def test_numbers_of_classes_have_the_same_length(tmp_path: Path) -> None:
    for split in ("train", "val"):
        files = [pair for i in range(12) for pair in ((f"{i}.png", b"x"), (f"{i}.cls", b"%d" % i))]
        write_tar(tmp_path / split / "0.tar", files)
    network = tiny(("FC-3", "FC-12")).network
    assert open_data(tmp_path, network).classes[8:11] == ("08", "09", "10")


def test_named_classes_are_checked_before_shards_are_read(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.tar").write_text("no tar")
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    assert mistake(tmp_path) == data.ClassMismatch(
        classes=4, outputs=3, layer="fc3", names=("a", "b", "c", "d")
    )


@pytest.mark.parametrize(
    ("text", "tried"),
    [
        (b"a\n\nc\n", "line 2 is empty"),
        (b"a\ncrane\na b\ncrane\na\n", "`a` in lines 1 and 5; `crane` in lines 2 and 4"),
        ("é\nb\ne\u0301\n".encode(), r'"\\u00e9" = "e\\u0301" in lines 1 and 3'),
        (b"a\nb\n\xff\n", "is not UTF-8"),
    ],
)
def test_names_of_classes_are_whole(tmp_path: Path, text: bytes, tried: str) -> None:
    path = write_few(tmp_path) / "classes.txt"
    path.write_bytes(text)
    for read in (lambda: open_data(tmp_path, NETWORK), lambda: open_labelled(tmp_path)):
        with refused(tried) as caught:
            read()
        (found,) = caught.value.reports
        assert (found.what.code, found.path) == ("VGG435", str(path))


def test_a_name_in_two_lines_is_said_with_how_to_mend_it(tmp_path: Path) -> None:
    (write_few(tmp_path) / "classes.txt").write_text("crane\nbee\ncrane\n")
    with refused(r"as `crane \(2\)` in line 3"):
        open_data(tmp_path, NETWORK)


@pytest.mark.parametrize(
    ("entries", "file", "better"),
    [
        ([("img.v2.00.png", b"x"), ("img.v2.00.cls", b"0")], "img.v2.00.png", "img_v2_00.png"),
        ([("a/x.1.JPG", b"x"), ("a/x.1.cls", b"0")], "a/x.1.JPG", "a/x_1.JPG"),
        ([("a.png", b"x"), ("a.1.cls", b"0")], "a.1.cls", "a_1.cls"),
        (
            [("a.png", b"x"), ("a.cls", b"0"), ("a.1.png", b"x"), ("a.1.cls", b"0")],
            "a.1.cls",
            "a_1.cls",
        ),
    ],
)
def test_a_name_with_more_dots_is_told(
    tmp_path: Path, entries: list[tuple[str, bytes]], file: str, better: str
) -> None:
    write_few(tmp_path, entries)
    found = mistake(tmp_path)
    assert isinstance(found, data.BadSample)
    assert f"a sample's name ends at the first dot: `{file}`" in str(found.help())
    assert f"as `{better}`" in str(found.help())


def test_what_lies_beside_shards_is_counted_or_refused(tmp_path: Path) -> None:
    write_few(tmp_path)
    (tmp_path / "train" / "1.tar.gz").write_bytes(b"x")
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "train" / ".hidden.tar").touch()
    (note,) = open_data(tmp_path, NETWORK).notes
    assert note == (
        "skipped in train: 2 files and folders beside the shards (1.tar.gz, cat);"
        " 1 hidden file or folder (.hidden.tar)"
    )
    (tmp_path / "train" / "cat" / "1.png").touch()
    shards = tuple(sorted(path.name for path in (tmp_path / "train").glob("[0-9]*.tar")))
    assert mistake(tmp_path) == data.FoldersAndShards(folders=("cat",), shards=shards)


def test_classes_are_held_against_the_net(tmp_path: Path) -> None:
    write_few(tmp_path, [("d.png", b"x"), ("d.cls", b"3")])
    assert mistake(tmp_path) == data.ClassMismatch(classes=4, outputs=3, layer="fc3")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert mistake(tmp_path) == data.BadSample(name="d.png", why="its class is 3, there are 0 to 2")
    (tmp_path / "train" / "0.tar").unlink()
    write_tar(
        tmp_path / "train" / "1.tar",
        [("a.png", b""), ("a.cls", b"0"), ("b.png", b""), ("b.cls", b"2")],
    )
    assert mistake(tmp_path) == data.EmptyClass(name="b")


def test_a_class_that_only_val_has_is_out_of_range(tmp_path: Path) -> None:
    write_few(tmp_path)
    write_tar(tmp_path / "val" / "1.tar", [("a.png", b""), ("a.cls", b"7")])
    assert mistake(tmp_path) == data.BadSample(name="a.png", why="its class is 7, there are 0 to 2")


def test_both_splits_have_shards(tmp_path: Path) -> None:
    (write_few(tmp_path) / "val" / "0.tar").rename(tmp_path / "val" / ".hidden.tar")
    assert "holds no shards" in mistake(tmp_path).title()
    write_tar(tmp_path / "val" / "0.tar", [])
    assert "holds no images" in mistake(tmp_path).title()


BAD_SAMPLES = {
    "no class": ([("a.png", b"x")], "it has no class, `cls`"),
    "no image": ([("a.cls", b"1"), ("a.gif", b"x")], "it has no image, jpg, jpeg, png, webp"),
    "a word": ([("a.png", b"x"), ("a.cls", b"one")], "its class is no number from 0"),
    "negative": ([("a.png", b"x"), ("a.cls", b"-1")], "its class is no number from 0"),
    "long": ([("a.png", b"x"), ("a.cls", b"1".ljust(99))], "its class is no number from 0"),
    "huge": ([("a.png", b"x"), ("a.cls", b"1" * 20)], "its class is no number from 0"),
    "scattered": (
        [("a.png", b"x"), ("a.cls", b"1"), ("b.png", b""), ("b.cls", b"1"), ("a.jpg", b"x")],
        "it is there twice",
    ),
}


@pytest.mark.parametrize("kind", BAD_SAMPLES)
def test_bad_samples_are_named(tmp_path: Path, kind: str) -> None:
    files, why = BAD_SAMPLES[kind]
    write_few(tmp_path, files)
    assert mistake(tmp_path) == data.BadSample(name="a", why=why)


BAD_SHARDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated in a file": (lambda raw: raw[:700], "it ends within `0.png`"),
    "truncated in a header": (lambda raw: raw[: raw.index(b"1.png") + 90], "begins no file"),
    "damaged header": (lambda raw: raw.replace(b"1.cls", b"\xff.cls"), "begins no file"),
    "empty": (lambda raw: b"", "empty file"),
    "text": (lambda raw: b"text" * 1000, "invalid header"),
    "zeros": (lambda raw: bytes(700), "ends"),
    "compressed": (lambda raw: gzip.compress(raw), "invalid header"),
}


@pytest.mark.parametrize("kind", BAD_SHARDS)
def test_bad_shards_are_named(tmp_path: Path, kind: str) -> None:
    damage, why = BAD_SHARDS[kind]
    path = write_few(tmp_path) / "train" / "0.tar"
    path.write_bytes(damage(path.read_bytes()))
    if kind == "zeros":  # a tar of nothing
        assert mistake(tmp_path).code == data.ClassMismatch.code
        return
    found = mistake(tmp_path)
    assert isinstance(found, data.BadShard)
    assert why in found.why, found.why


def test_a_file_is_in_a_shard_once(tmp_path: Path) -> None:
    write_few(tmp_path, [("a.png", b"x"), ("a.cls", b"1"), ("a.png", b"x")])
    assert mistake(tmp_path) == data.BadShard(why="`a.png` is there twice")


def test_sparse_files_are_not_read_as_if_they_were_whole(tmp_path: Path) -> None:
    write_few(tmp_path)
    with tarfile.open(tmp_path / "train" / "0.tar", "a") as tar:
        info = tarfile.TarInfo("a.png")
        info.type = tarfile.GNUTYPE_SPARSE
        tar.addfile(info)
    assert mistake(tmp_path) == data.BadShard(why="`a.png` is stored as a sparse file")


def test_any_damage_gives_samples_or_a_report(tmp_path: Path) -> None:
    path = write_few(tmp_path) / "train" / "0.tar"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    reported = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, 9 * 512, 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            samples(open_data(tmp_path, NETWORK))
        except (VggspecError, BadImageError):
            reported += 1
    assert reported > 0


def test_a_shard_that_changes_is_indexed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_data(write_few(tmp_path), NETWORK)
    indexed: list[Path] = []
    index = shards._samples
    monkeypatch.setattr(shards, "_samples", lambda p, *rest: indexed.append(p) or index(p, *rest))
    again = open_data(tmp_path, NETWORK)
    assert not indexed
    assert (again.fingerprint, again.stamp) == (before.fingerprint, before.stamp)
    write_few(tmp_path, [("a.png", encoded(1, 9)), ("a.cls", b"1")])
    after = open_data(tmp_path, NETWORK)
    assert tmp_path / "train" / "0.tar" in indexed
    assert len(after.train) == 4
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"names": ["a"]},
        {"names": ["a"], "offsets": [0], "sizes": [1, 2], "labels": [0]},
        {"names": ["a"], "offsets": [0], "sizes": [10**9], "labels": [0]},
        {"names": ["a"], "offsets": [-5], "sizes": [1], "labels": [0]},
        {"names": ["a"], "offsets": [10**30], "sizes": [1], "labels": [0]},
        {"names": [7], "offsets": [0], "sizes": [1], "labels": [0]},
        {"names": ["a"], "offsets": [0], "sizes": [1], "labels": [-1]},
        {"names": "a", "offsets": {}, "sizes": [1], "labels": [0]},
    ],
)
def test_a_damaged_index_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    expected = samples(open_data(write_few(tmp_path), NETWORK))
    monkeypatch.setattr(shards, "recall", lambda kind, key: value)
    assert samples(open_data(tmp_path, NETWORK)) == expected


def test_without_the_library_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[train\]"'):
        open_data(write_few(tmp_path), NETWORK)


def test_a_shard_that_shrinks_has_bad_images(tmp_path: Path) -> None:
    found = open_data(write_few(tmp_path), NETWORK)
    path = tmp_path / "train" / "0.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(BadImageError, match="the shard ends within it"):
        found.train.read(0)
    path.unlink()
    with pytest.raises(BadImageError, match="no such file"):
        found.train.read(0)


def test_crops_from_shards_are_those_of_their_images(tmp_path: Path) -> None:
    lowered = tiny()
    found = open_data(write_shards(tmp_path), lowered.network)
    images = Images(found.train, "RGB", (18, 20), are_kept=False)
    np.testing.assert_array_equal(images.read(3), decode(encoded(0, 3), "RGB"))
    recipe = lowered.experiment.train
    crops = TrainCrops(images, lowered.network.input, recipe, np.eye(3), seed=0)
    crop = crops[Ticket(1, 17)]
    assert isinstance(crop, Crop)
    assert crop.label == 17 % 3


def test_the_cache_holds_nothing_but_numbers_and_names(tmp_path: Path) -> None:
    shard = (write_few(tmp_path) / "train" / "0.tar").resolve()
    open_data(tmp_path, NETWORK)
    stat = shard.stat()
    key = [shards.FORMAT, str(shard), stat.st_size, stat.st_mtime_ns]
    value = cache.recall("shard", key)
    assert json.loads(json.dumps(value))["names"] == ["0.png", "1.png", "2.png"]
    assert value["labels"] == [0, 1, 2]
