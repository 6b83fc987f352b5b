"""Files of features: others can read them, they are whole or not there, strangers' do no harm."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import safe_open

from tests.refusals import refused
from vggspec.base.diagnostic import VggspecError
from vggspec.studies.features.file import CLASSES, LEFT_OUT, SETTINGS, open_features, writing

D = 5
NAMES = ("a b.jpg", "ß.png", "\udcff.jpg")
ROWS = np.random.default_rng(0).standard_normal((3, D)).astype(np.float32)
FLAGS = np.array([[1, 0], [1, 1], [0, 0]], np.uint8)


def write(path: Path, labels: Any, classes: tuple[str, ...] | None = ("x", "y")) -> Path:
    with writing(path, {"train": 4, "val": 1}, D, classes, {"combine": "average"}) as writer:
        writer.begin("train")
        for i, name in enumerate(NAMES):
            writer.add(name, ROWS[i], None if labels is None else labels[i])
        writer.leave_out()
        writer.begin("val")
        writer.add("v.jpg", -ROWS[0], None if labels is None else labels[0])
    return path


@pytest.mark.parametrize("labels", [np.array([0, 1, 1]), FLAGS, None], ids=["one", "several", "no"])
def test_the_safetensors_library_reads_what_is_written(labels: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "f", labels)
    found = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(found["train.features"], ROWS)
    np.testing.assert_array_equal(found["val.features"], -ROWS[:1])
    if labels is None:
        assert "train.labels" not in found
    else:
        np.testing.assert_array_equal(found["train.labels"], labels)
        np.testing.assert_array_equal(found["val.labels"], labels[:1])
        assert found["train.labels"].dtype == (np.int64 if labels.ndim == 1 else np.uint8)
    names = found["train.names"].tobytes().split(b"\0")
    assert names == [b"a b.jpg", "ß.png".encode(), b"\xff.jpg", b""]
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    assert json.loads(metadata[CLASSES]) == ["x", "y"]
    assert json.loads(metadata[LEFT_OUT]) == {"train": 1, "val": 0}
    assert json.loads(metadata[SETTINGS]) == {"combine": "average"}
    opened = open_features(path)
    assert list(opened.splits) == ["train", "val"]
    assert (opened.classes, opened.settings) == (("x", "y"), {"combine": "average"})
    train = opened.splits["train"]
    np.testing.assert_array_equal(train.features, ROWS)
    assert isinstance(train.features, np.memmap)
    assert train.names == NAMES
    if labels is not None:
        np.testing.assert_array_equal(train.labels, labels)


def test_what_fails_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with writing(path, {"train": 9}, D, None, {}) as writer:
            writer.begin("train")
            writer.add("a", ROWS[0], 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_many_classes_and_splits_find_room_in_the_header(tmp_path: Path) -> None:
    classes = tuple(f"n{i:08} of a long name" for i in range(1000))
    splits = {"s" * 200: 3, "t" * 200: 3}
    with writing(tmp_path / "f", splits, 1, classes, {"x": "y" * 999}) as writer:
        for split in splits:
            writer.begin(split)
            writer.add("a", np.ones(1, np.float32), 999)
    opened = open_features(tmp_path / "f")
    assert opened.classes == classes
    assert [split.labels for split in opened.splits.values()] == [[999], [999]]


def stranger(path: Path, tensors: dict[str, NDArray[Any]], **metadata: str) -> Path:
    safetensors.numpy.save_file(tensors, path, metadata or None)
    return path


def octets(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


GOOD = {"train.features": ROWS, "train.labels": np.array([0, 1, 1])}


def test_a_strangers_file_will_do(tmp_path: Path) -> None:
    opened = open_features(stranger(tmp_path / "f", GOOD))
    assert (opened.classes, opened.settings) == (None, {})
    assert opened.splits["train"].names is None


BAD: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "no features": ({"weights": ROWS}, {}, "no tensor `train.features`"),
    "half precision": ({"train.features": ROWS.astype(np.float16)}, {}, "contains F16"),
    "one axis": ({"train.features": ROWS[0]}, {}, "is 5, not images"),
    "no images": ({"train.features": ROWS[:0]}, {}, "is 0 × 5"),
    "labels of floats": (GOOD | {"train.labels": ROWS[:, 0]}, {}, "F32 of 3"),
    "too few labels": (GOOD | {"train.labels": np.array([0, 1])}, {}, "I64 of 2"),
    "a negative class": (GOOD | {"train.labels": np.array([0, -1, 1])}, {}, "not classes"),
    "a huge class": (GOOD | {"train.labels": np.array([0, 1 << 62, 1])}, {}, "not classes"),
    "a class without a name": (GOOD, {CLASSES: '["x"]'}, "not classes"),
    "flags of 2": (GOOD | {"train.labels": FLAGS * 2}, {}, "other than 0 and 1"),
    "a column too many": (GOOD | {"train.labels": FLAGS}, {CLASSES: '["x"]'}, "2 columns for 1"),
    "names of others": (GOOD | {"train.names": octets(b"a\0b\0")}, {}, "are not 3 names"),
    "names without an end": (GOOD | {"train.names": octets(b"a\0b\0c")}, {}, "are not 3 names"),
    "classes twice": (GOOD, {CLASSES: '["x", "x"]'}, "names a class twice"),
    "classes of numbers": (GOOD, {CLASSES: "[1, 2]"}, "not a list of texts"),
    "classes malformed": (GOOD, {CLASSES: "[" * 100_000}, "malformed"),
    "settings malformed": (GOOD, {SETTINGS: "[]"}, "not an object"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_so_is_said(case: str, tmp_path: Path) -> None:
    tensors, metadata, words = BAD[case]
    path = stranger(tmp_path / "f", tensors, **metadata)
    with pytest.raises(VggspecError) as caught:
        open_features(path)
    (report,) = caught.value.reports
    assert (report.what.code, report.path) == ("VGG710", str(path))
    assert words in report.what.title()


@pytest.mark.parametrize(
    "data",
    [b"", b"1234567", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 2) + b"[]"],
    ids=["empty", "short", "huge header", "a list"],
)
def test_what_is_no_such_file_is_said(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(data)
    with refused("VGG710"):
        open_features(path)
    with refused("VGG510"):
        open_features(tmp_path / "none")
    whole = write(path, None).read_bytes()
    path.write_bytes(whole[:-1])
    with refused("VGG710"):
        open_features(path)
