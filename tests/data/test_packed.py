"""CIFAR's, MNIST's and Parquet files, written as their formats say, or by Arrow."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.nets import net
from tests.refusals import refused
from tests.training.folders import HUES, picture, tiny
from vggspec.base.catalogue import data as catalogue
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.base.render import as_text
from vggspec.compiler.ir import Network
from vggspec.data import parquet, records
from vggspec.data.classed import open_classed
from vggspec.data.decode import BadImageError, decode
from vggspec.data.labelled import open_labelled
from vggspec.data.split import Split
from vggspec.training.dataset import open_data

Arrays = NDArray[np.uint8]


def ending_in(outputs: int, side: int = 32) -> Network:
    return net(f"net n\ninput {side}x{side} RGB\nFC-{outputs}\nsoft-max\n").network


def pixels(split: Split, color: Any = "RGB") -> Arrays:
    return np.stack([decode(split.read(index), color) for index in range(len(split))])


def drawn(number: int, *shape: int) -> Arrays:
    return np.random.default_rng(number).integers(0, 256, (number, *shape), np.uint8)


def write_cifar(folder: Path, coarse: bytes = b"", classes: int = 10) -> dict[str, Arrays]:
    """An image of each class in each file, and some more: class, then red, green and blue."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    train = ["train.bin"] if coarse else [f"data_batch_{i}.bin" for i in range(1, 6)]
    for number, name in enumerate([*train, "test.bin" if coarse else "test_batch.bin"]):
        images[name] = drawn(classes + number, 32, 32, 3)
        with (folder / name).open("wb") as file:
            for i, image in enumerate(images[name]):
                label = (i + number) % classes
                file.write(coarse + bytes([label]) + image.transpose(2, 0, 1).tobytes())
    names = "".join(f"kind {number}\n" for number in range(classes))
    (folder / ("fine_label_names.txt" if coarse else "batches.meta.txt")).write_text(f"{names}\n")
    return images


def test_cifar_10(tmp_path: Path) -> None:
    images = write_cifar(tmp_path)
    found = open_data(tmp_path, ending_in(10))
    assert found.classes == tuple(f"kind {number}" for number in range(10))
    *train, test = images.values()
    np.testing.assert_array_equal(pixels(found.train), np.concatenate(train))
    np.testing.assert_array_equal(pixels(found.val), test)
    assert found.train.labels[:22].tolist() == [*range(10), *range(1, 10), 0, 1, 2]
    assert found.train.name(11) == f"{tmp_path}/data_batch_2.bin: 1"
    assert found.notes == ("validation is on the test images: the data has no others",)
    apart = open_data(tmp_path, ending_in(10), validate_on=0.3)
    assert len(apart.val) + len(apart.train) == len(found.train)
    assert np.bincount(apart.val.labels, minlength=10).min() >= 1
    labelled = open_labelled(tmp_path)
    assert (labelled.classes, len(labelled.images)) == (found.classes, len(test))
    assert len(open_labelled(tmp_path, "train").images) == len(found.train)
    both = open_classed(tmp_path)
    assert [(each.split, len(each.images)) for each in both] == [("train", 60), ("val", 15)]
    with refused("it has no split `extra`, but `train`, `test`"):
        open_labelled(tmp_path, "extra")


def test_cifar_100_by_its_fine_classes(tmp_path: Path) -> None:
    images = write_cifar(tmp_path, coarse=b"\x13", classes=100)
    found = open_data(tmp_path, ending_in(100))
    np.testing.assert_array_equal(pixels(found.val), images["test.bin"])
    assert found.val.labels.tolist() == [(i + 1) % 100 for i in range(101)]


def test_pickles_are_refused(tmp_path: Path) -> None:
    """The version of CIFAR for Python; the error names the other one."""
    for name in ("data_batch_1", "batches.meta"):
        (tmp_path / name).write_bytes(b"\x80\x02.")
    for read in (lambda: open_data(tmp_path, ending_in(10)), lambda: open_labelled(tmp_path)):
        with pytest.raises(VggspecError) as caught:
            read()
        text = as_text(caught.value.reports).replace(str(tmp_path), "$DIR")
        assert (
            text
            == """\
error[VGG430]: these files are pickles, which vggspec does not read
 --> $DIR
  = help: use the binary version, `cifar-10-binary.tar.gz` or `cifar-100-binary.tar.gz`,
          from https://www.cs.toronto.edu/~kriz/cifar.html"""
        )


def idx(array: Arrays) -> bytes:
    return (
        (0x800 + array.ndim).to_bytes(4)
        + b"".join(n.to_bytes(4) for n in array.shape)
        + array.tobytes()
    )


def write_mnist(folder: Path, packed: Callable[[bytes], bytes] = bytes, end: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, number in (("train", 30), ("t10k", 20)):
        images, labels = drawn(number, 28, 20), np.arange(number, dtype=np.uint8) % 10
        (folder / f"{stem}-images-idx3-ubyte{end}").write_bytes(packed(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte{end}").write_bytes(packed(idx(labels)))


@pytest.mark.parametrize(("packed", "end"), [(bytes, ""), (gzip.compress, ".gz")])
def test_mnist(tmp_path: Path, packed: Callable[[bytes], bytes], end: str) -> None:
    write_mnist(tmp_path, packed, end)
    found = open_data(tmp_path, ending_in(10, 28))
    assert found.classes == tuple("0123456789")
    np.testing.assert_array_equal(pixels(found.train, "gray")[..., 0], drawn(30, 28, 20))
    np.testing.assert_array_equal(pixels(found.val, "gray")[..., 0], drawn(20, 28, 20))
    assert found.train.labels.tolist() == [*range(10)] * 3
    assert open_labelled(tmp_path).classes is None
    names = [f"garment {number}" for number in range(10)]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert open_data(tmp_path, ending_in(10, 28)).classes == tuple(names)


def test_damaged_records_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "c")
    write_mnist(tmp_path / "m", gzip.compress, ".gz")
    whole = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    images, labels = (next(tmp_path.glob(f"m/train-{kind}*")) for kind in ("images", "labels"))
    batch, meta = tmp_path / "c/data_batch_2.bin", tmp_path / "c/batches.meta.txt"
    bomb = gzip.compress(b"\0" * (8 << 20))
    cases = [
        (batch, whole[batch][:-1], "are not images of 3073 bytes"),
        (batch, b"", "its 0 bytes are not images"),
        (batch, b"\x0a" + whole[batch][1:], "it has a class 10, there are 10"),
        (meta, b"one\ntwo\n", "does not have 10 names, each once"),
        (meta, b"\xff", "it is not text"),
        (images, whole[images][:-9], "it cannot be unpacked"),
        (images, gzip.compress(b"\0\0\x08\x01"), "it is no idx file of bytes in 3 dimensions"),
        (images, gzip.compress(idx(drawn(30, 28, 20))[:-1]), "and says that it has"),
        (images, gzip.compress(idx(drawn(3, 5000, 1))), "it has 3 × 5000 × 1 values"),
        (images, bomb, "it has more than"),
        (labels, gzip.compress(idx(np.zeros(29, np.uint8))), "it has 29 classes, for 30 images"),
        (labels, b"not gzip", "it cannot be unpacked"),
    ]  # fmt: skip
    monkeypatch.setattr(records, "MAX_BYTES", 4 << 20)
    for path, content, why in cases:
        path.write_bytes(content)
        with refused(why) as caught:
            open_data(path.parent, ending_in(10))
        assert caught.value.reports[0].what.code == catalogue.BadPacked.code
        assert caught.value.reports[0].path == str(path)
        path.write_bytes(whole[path])
    open_data(tmp_path / "c", ending_in(10))
    found = open_data(tmp_path / "c", ending_in(10)).train
    batch.write_bytes(b"")
    with pytest.raises(BadImageError, match="the file ends within it"):
        found.read(len(found) - 40)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def hub(names: list[str], **others: list[str]) -> dict[str, str]:
    """The metadata that the ``datasets`` library writes."""
    features: dict[str, Any] = {"image": {"_type": "Image"}, "text": {"_type": "Value"}}
    for column, known in {"label": names, **others}.items():
        features[column] = {"names": known, "_type": "ClassLabel"}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def write_table(
    path: Path, labels: list[Any], metadata: dict[str, str] | None = None, **more: Any
) -> list[bytes]:
    """A file as ``datasets`` writes it: a picture of the class's colour in each row."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table as write

    hues = list(HUES.values())
    images = [png(picture(hues[i % 3], (20, 24), i)) for i in range(len(labels))]
    struct = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = {"image": arrow.array(struct, kind), "label": arrow.array(labels)}
    columns |= {name: arrow.array(values) for name, values in more.items()}
    table = arrow.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(table.replace_schema_metadata(metadata), path, row_group_size=4, compression="zstd")
    return images


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("data/train-0000{}-of-00002.parquet", "data/validation-00000-of-00001.parquet"),
        ("train-0000{}-of-00002-0123abcd.parquet", "test.parquet"),
        ("train/000{}.parquet", "test/0000.parquet"),
    ],
)
def test_parquet_as_on_the_hub(tmp_path: Path, train: str, val: str) -> None:
    metadata = hub(["red", "blue", "green"])
    first = write_table(tmp_path / train.format(0), [0, 1, 2] * 3, metadata)
    second = write_table(tmp_path / train.format(1), [2, 1, 0], metadata)
    third = write_table(tmp_path / val, [1, 1, 0, 2, 2], metadata)
    found = open_data(tmp_path, tiny().network)
    assert found.classes == ("red", "blue", "green")
    assert found.train.labels.tolist() == [0, 1, 2] * 3 + [2, 1, 0]
    assert [found.train.read(index) for index in range(12)] == first + second
    assert [found.val.read(index) for index in range(5)] == third
    assert found.train.name(10) == f"{tmp_path / train.format(1)}: 1"
    assert open_data(tmp_path, tiny().network).fingerprint == found.fingerprint
    labelled = open_labelled(tmp_path)
    assert labelled.classes == found.classes
    assert labelled.images.labels.tolist() == [1, 1, 0, 2, 2]
    write_table(tmp_path / val, [1, 1, 0, 2, 1], metadata)
    assert open_data(tmp_path, tiny().network).stamp != found.stamp


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train-00000-of-00002"], "`train-00001-of-00002.parquet` is not beside it, and the"),
        (["train-00001-of-00004"], "`train-00000-of-00004.parquet` is not beside it, and 2 more"),
        (["train-00000-of-00002-01ab"], r"`train-00001-of-00002-\*.parquet` is not beside it"),
        (["train/00000-of-00002"], "`00001-of-00002.parquet` is not beside it"),
        (["train-00000-of-00001", "train-00001-of-00002"], "not belong to the 1 file of"),
        (["train-00000-of-00001", "train-00001-of-00001"], "not belong to the 1 file of"),
        (["train-00000-of-00001-ab", "train-00000-of-00001-cd"], "number 0 .* is there twice"),
    ],
)
def test_no_file_of_a_split_may_be_missing(tmp_path: Path, names: list[str], said: str) -> None:
    for name in (*names, "val/0" if "/" in names[0] else "val"):
        write_table(tmp_path / f"{name}.parquet", [0, 1, 2])
    with refused(f"VGG429(.|\n)*{said}"):
        open_data(tmp_path, tiny().network)


def test_the_net_decides_which_classes_are_meant(tmp_path: Path) -> None:
    """CIFAR-100 on the Hub has fine and coarse ones."""
    metadata = hub(["a", "b", "c"], coarse=["x", "y"])
    coarse = [0, 0, 1]
    for split in ("train", "test"):
        path = tmp_path / f"data/{split}-00000-of-00001.parquet"
        write_table(path, [0, 1, 2], metadata, coarse=coarse, text=["-"] * 3)
    assert open_data(tmp_path, tiny().network).classes == ("a", "b", "c")
    two = tiny(("FC-3\n", "FC-2\n")).network
    found = open_data(tmp_path, two)
    assert (found.classes, found.train.labels.tolist()) == (("x", "y"), coarse)
    assert open_labelled(tmp_path).classes == ("a", "b", "c")  # the column called `label`


def test_parquet_without_metadata(tmp_path: Path) -> None:
    write_table(tmp_path / "train.parquet", [0, 2, 1, 2])
    write_table(tmp_path / "val.parquet", [0, 2, 1])
    assert open_data(tmp_path, tiny().network).classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("red\nblue\ngreen\n")
    assert open_data(tmp_path, tiny().network).classes == ("red", "blue", "green")
    (tmp_path / "classes.txt").unlink()
    write_table(tmp_path / "train.parquet", ["red", "green", "blue"])
    write_table(tmp_path / "val.parquet", ["blue", "green", "red"])
    found = open_data(tmp_path, tiny().network)
    assert found.classes == ("blue", "green", "red")
    assert (found.train.labels.tolist(), found.val.labels.tolist()) == ([2, 1, 0], [0, 1, 2])


def test_classes_by_name_are_those_of_train(tmp_path: Path) -> None:
    """``val`` may lack some of them, and has no others."""
    write_table(tmp_path / "train.parquet", ["red", "green", "blue"])
    write_table(tmp_path / "val.parquet", ["red", "green", "red"])
    found = open_data(tmp_path, tiny().network)
    assert found.val.labels.tolist() == [2, 1, 2]
    assert found.notes == ("val has no images of 1 class: `blue`",)
    write_table(tmp_path / "val.parquet", ["red", "violet"])
    with refused("val has classes that train does not have: `violet`"):
        open_data(tmp_path, tiny().network)
    write_table(tmp_path / "train.parquet", [0, 1, 2])
    write_table(tmp_path / "val.parquet", [0, 5])
    with refused("image 1: its class is 5, there are 0 to 2"):
        open_data(tmp_path, tiny().network)


def test_a_split_of_its_own_is_not_split_again(tmp_path: Path) -> None:
    metadata = hub(["red", "blue", "green"])
    write_table(tmp_path / "train.parquet", [0, 1, 2] * 4, metadata)
    write_table(tmp_path / "test.parquet", [0, 1, 2], metadata)
    apart = open_data(tmp_path, tiny().network, validate_on=0.25)
    assert np.bincount(apart.val.labels).tolist() == [1, 1, 1]
    write_table(tmp_path / "validation.parquet", [0, 1, 2], metadata)
    with refused("the data has a split for validation of its own"):
        open_data(tmp_path, tiny().network, validate_on=0.25)


def test_damaged_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = pytest.importorskip("pyarrow")
    path = tmp_path / "train.parquet"
    names = ["red", "blue", "green"]
    write_table(tmp_path / "val.parquet", [0, 1, 2], hub(names))
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: path.write_bytes(b"PAR1 this is none"), "it cannot be read"),
        (lambda: path.write_bytes(b""), "it cannot be read"),
        (lambda: write_table(path, [0, 1, 3], hub(names)), "a class is 3, there are 0 to 2"),
        (lambda: write_table(path, [0, -1], hub(names)), "a class is -1"),
        (lambda: write_table(path, [0, None], hub(names)), 'row 1 has no class, but "None"'),
        (lambda: write_table(path, [0.5, 1.0], hub(names)), "row 0 has no class"),
        (lambda: write_table(path, arrow.array([], arrow.int64()), hub(names)), "it has no rows"),
        (lambda: write_table(path, [0], hub(["a", "a"])), "are not a list of words"),
        (lambda: write_table(path, [0], {"huggingface": "[]"}), "does not describe its columns"),
        (lambda: write_table(path, [0], None, image=["a.png"]), "no column holds images"),
        (lambda: write_table(path, [0], None, image=["a"], a=[b"1"], b=[b"2"]), "hold the images"),
        (lambda: write_table(path, [0], hub(["x"])), "the data has 1 class, `fc3` has 3 outputs"),
        (lambda: write_table(path, [0], hub(names)), "class `blue` has no images"),
    ]  # fmt: skip
    for write, why in cases:
        write()
        with refused(why):
            open_data(tmp_path, tiny().network)
    write_table(path, [0, 1, 2], hub(names))
    content = bytearray(path.read_bytes())
    for start in range(4, len(content) - 8, 97):  # each byte may be wrong, none may end the process
        damaged = content.copy()
        damaged[start] ^= 0xFF
        path.write_bytes(damaged)
        try:
            found = open_data(tmp_path, tiny().network).train
        except VggspecError:
            continue
        assert len(found) == 3
    write_table(path, [0, 1, 2], hub(names))
    monkeypatch.setattr(parquet, "MAX_BYTES", 1000)
    with refused("which would be held in memory"):
        open_data(tmp_path, tiny().network)


def test_parquet_needs_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "train.parquet", [0])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[parquet\]"'):
        open_data(tmp_path, tiny().network)
