"""Checkpoints: what PyTorch, NumPy and safetensors wrote gives their numbers; all else is named."""

import argparse
import io
import json
import pickle
import re
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from vggspec.base.diagnostic import VggspecError
from vggspec.base.render import as_text
from vggspec.compiler.importing import foreign_files
from vggspec.compiler.importing.checkpoint import Checkpoint, read_checkpoint

NUMBERS = torch.Generator().manual_seed(0)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=NUMBERS)


def state() -> dict[str, torch.Tensor]:
    return {"b.weight": rand(4, 3, 3, 3), "b.bias": rand(4), "a.weight": rand(2, 4)}


def saved(path: Path, value: object, **how: Any) -> Path:
    torch.save(value, path, **how)
    return path


def refusal(path: Path, key: str | None = None) -> str:
    with pytest.raises(VggspecError) as caught:
        read_checkpoint(path, key)
    text = as_text(caught.value.reports)
    assert all(char.isprintable() for char in text.replace("\n", ""))
    return text


def same(found: Checkpoint, expected: dict[str, torch.Tensor]) -> None:
    assert list(found.tensors) == list(expected)
    for name, tensor in expected.items():
        assert found.tensors[name].dtype == np.float32
        assert found.tensors[name].flags.c_contiguous
        np.testing.assert_array_equal(found.tensors[name], tensor.detach().float().numpy())


class Written(nn.Module):
    """A module of a program's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)


FLOATS = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_pytorch_types(dtype: torch.dtype, is_zip: bool, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in state().items()}
    path = saved(tmp_path / "w", tensors, _use_new_zipfile_serialization=is_zip)
    same(read_checkpoint(path), tensors)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pytorch_tensors_of_every_kind(protocol: int, is_zip: bool, tmp_path: Path) -> None:
    whole = rand(6, 5, 4)
    tensors = OrderedDict(
        part=whole[1:3, ::2],
        same=whole[1:3, ::2],
        turned=whole.permute(2, 0, 1),
        last=rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        expanded=rand(1, 7).expand(5, 7),
        parameter=nn.Parameter(rand(3, 3)),
        scalar=torch.tensor(2.5),
        none=torch.empty(0, 3),
        large=torch.full((3, 2), 1e300, dtype=torch.float64),
        buffer=nn.Buffer(rand(2, 2)),
    )
    path = tmp_path / "w.pth"
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    found = read_checkpoint(path)
    same(found, torch.load(path, weights_only=False))
    assert found.kind == "pytorch"
    assert found.has_order
    assert np.isinf(found.tensors["large"]).all()


def test_pytorch_files_of_other_machines_and_without_checksums(tmp_path: Path) -> None:
    tensors = {"a": rand(3, 4), "h": rand(2, 3).half(), "b": rand(2, 2).bfloat16()}
    torch.serialization.set_default_load_endianness(torch.serialization.LoadEndianness.LITTLE)
    try:
        torch.serialization.set_crc32_options(False)
        same(read_checkpoint(saved(tmp_path / "w", tensors)), tensors)
    finally:
        torch.serialization.set_crc32_options(True)
        torch.serialization.set_default_load_endianness(None)
    swapped = {
        name: torch.from_numpy(
            tensor.view(torch.uint8).numpy().reshape(-1, tensor.element_size())[:, ::-1].copy()
        ).reshape(-1).view(tensor.dtype).reshape(tensor.shape)
        for name, tensor in tensors.items()
    }  # fmt: skip
    path = saved(tmp_path / "big", swapped)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, b"big" if name.endswith("byteorder") else data)
    same(read_checkpoint(path), tensors)


def test_integers_are_left_out_and_counted(tmp_path: Path) -> None:
    more = {
        "n.num_batches_tracked": torch.tensor(3),
        "n.index": torch.arange(4),
        "n.mask": torch.ones(2, dtype=torch.bool),
        "n.wide": torch.arange(3).to(torch.uint32),
        "n.wave": torch.ones(2, 2, dtype=torch.complex64),
    }
    expected = ("n.index", "n.mask", "n.wide", "n.wave")
    found = read_checkpoint(saved(tmp_path / "w.pth", state() | more))
    assert found.skipped == expected
    assert len(found.tensors) == 3
    np.savez(tmp_path / "w.npz", **{name: each.numpy() for name, each in (state() | more).items()})
    assert read_checkpoint(tmp_path / "w.npz").skipped == expected
    safetensors.torch.save_file(state() | more, tmp_path / "w.safetensors")
    assert set(read_checkpoint(tmp_path / "w.safetensors").skipped) == set(expected)


NUMPY = {
    "fortran": lambda x: np.asfortranarray(x),
    "big-endian": lambda x: x.astype(">f4"),
    "double": lambda x: x.astype(np.float64),
    "half": lambda x: x.astype(np.float16),
    "view": lambda x: x[::2, :, ::-1],
    "scalar": lambda x: x[0, 0, 0],
    "none": lambda x: x[:0],
}  # fmt: skip


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_arrays_of_every_kind(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {name: turn(rand(6, 3, 4).numpy()) for name, turn in NUMPY.items()}
    arrays["text"] = np.array(["a", "b"])
    arrays["fields"] = np.zeros(3, [("x", "f4"), ("y", "i4")])
    save(tmp_path / "w.npz", **arrays)
    found = read_checkpoint(tmp_path / "w.npz")
    assert list(found.tensors) == list(NUMPY)
    assert found.skipped == ("text", "fields")
    for name in NUMPY:
        np.testing.assert_array_equal(found.tensors[name], arrays[name].astype(np.float32))


def test_safetensors_of_every_type_need_no_pytorch(tmp_path: Path) -> None:
    x = rand(3, 4)
    types = FLOATS[:6]
    tensors = {str(dtype): x.to(dtype) for dtype in types}
    safetensors.torch.save_file(tensors, tmp_path / "w", metadata={"format": "pt"})
    found = read_checkpoint(tmp_path / "w")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found.tensors[name], tensor.float().numpy())
    assert (found.kind, found.has_order, found.metadata) == ("safetensors", False, {"format": "pt"})


def wrapped(**tables: object) -> dict[str, object]:
    return {"epoch": 3, "lr": 0.1, "loss": torch.tensor(0.5), **tables}


@pytest.mark.parametrize(
    ("tables", "taken", "others"),
    [
        (lambda s: s, None, ()),
        (lambda s: wrapped(state_dict=s), "state_dict", ()),
        (lambda s: wrapped(net=s), "net", ()),
        (lambda s: wrapped(params=s, params_ema=state()), "params", ("params_ema",)),
        (lambda s: wrapped(model_ema=state(), model=s), "model", ("model_ema",)),
        (lambda s: wrapped(ema={"module": s}), "ema.module", ()),
        (lambda s: wrapped(model={"state_dict": s}), "model.state_dict", ()),
        (lambda s: wrapped(state_dict=s, critic=state()), "state_dict", ("critic",)),
        (lambda s: Counter({"weights": defaultdict(None, s)}), "weights", ()),
        (
            lambda s: wrapped(
                net=s,
                optimizer={"state": {0: {"exp_avg": rand(3, 3)}}, "param_groups": [{"lr": 1.0}]},
            ),
            "net",
            (),
        ),
    ],
)
def test_the_table_is_found(
    tables: Callable[[Any], object], taken: str | None, others: tuple[str, ...], tmp_path: Path
) -> None:
    tensors = state()
    found = read_checkpoint(saved(tmp_path / "w.pth", tables(tensors)))
    same(found, tensors)
    assert (found.key, found.others) == (taken, others)


def test_the_table_is_named(tmp_path: Path) -> None:
    teacher, student = state(), state()
    path = saved(tmp_path / "w.pth", wrapped(teacher=teacher, student=student))
    text = refusal(path)
    assert "VGG553" in text
    assert "name one by `--key teacher` or `--key student`" in text
    same(read_checkpoint(path, "teacher"), teacher)
    same(read_checkpoint(path, "student"), student)
    assert "has 2 tables, none of them `pupil`" in refusal(path, "pupil")
    path = saved(tmp_path / "w.pth", wrapped(model=student, ema={"module": teacher}))
    same(read_checkpoint(path, "ema"), teacher)
    same(read_checkpoint(path, "ema.module"), teacher)
    assert "no table `net`" in refusal(saved(tmp_path / "w.pth", student), "net")


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "pth"])
def test_copies_of_a_net_in_one_table_are_told_apart(suffix: str, tmp_path: Path) -> None:
    def write(first: str, second: str) -> tuple[Path, dict[str, torch.Tensor]]:
        tensors = {
            f"m.{who}.{name}": each.clone()
            for who in (first, second)
            for name, each in ours.items()
        }
        path = tmp_path / f"w.{suffix}"
        if suffix == "pth":
            torch.save(tensors, path)
        elif suffix == "npz":
            np.savez(path, **{name: each.numpy() for name, each in tensors.items()})
        else:
            safetensors.torch.save_file(tensors, path)
        return path, tensors

    ours = state()
    path, tensors = write("student", "teacher")
    assert "`--key m.student`" in refusal(path)
    found = read_checkpoint(path, "teacher")
    assert set(found.tensors) == {name for name in tensors if "teacher" in name}
    path, tensors = write("net", "net_ema")
    found = read_checkpoint(path)
    assert set(found.tensors) == {name for name in tensors if ".net." in name}
    assert (found.key, found.others) == ("m.net", ("m.net_ema",))
    path, tensors = write("block1", "block2")  # two layers alike are no copies of a net
    assert set(read_checkpoint(path).tensors) == set(tensors)
    layers = {f"{name}.weight": rand(3, 3) for name in ("conv_q", "conv_k", "conv_v")}
    assert set(read_checkpoint(saved(tmp_path / "layers.pth", layers)).tensors) == set(layers)


def test_tables_within_tables_are_one_net(tmp_path: Path) -> None:
    def layer() -> dict[str, torch.Tensor]:
        return {"weight": rand(3, 3), "bias": rand(3)}

    nested = {"features": {"0": layer(), "3": layer()}, "classifier": {"0": layer()}}
    found = read_checkpoint(saved(tmp_path / "w.pth", {"state_dict": nested}))
    assert list(found.tensors) == [
        f"{name}.{part}" for name in ("features.0", "features.3", "classifier.0")
        for part in ("weight", "bias")
    ]  # fmt: skip
    halves = {"features": {"0.weight": rand(3, 3)}, "classifier": {"0.weight": rand(2, 3)}}
    found = read_checkpoint(saved(tmp_path / "w.pth", halves))
    assert list(found.tensors) == ["features.0.weight", "classifier.0.weight"]


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("value", "name", "way"),
    [
        (lambda: {"args": argparse.Namespace(lr=1), "state_dict": state()}, "argparse.Namespace",
         "weights_only=False)['state_dict']"),
        (lambda: {"best": np.float64(1), "net": state()}, "scalar", "weights_only=False)['net']"),
        (lambda: {"mean": np.zeros(3), "model": state()}, "_reconstruct", "['model']"),
        (lambda: Written(), "Written", "weights_only=False).state_dict()"),
        (lambda: {"model": Written(), "epoch": 1}, "Written", "['model'].state_dict()"),
        (lambda: {"path": Path("x"), "f": print}, "builtins.print", "weights_only=False)"),
    ],
)  # fmt: skip
def test_what_asks_for_code_is_named_and_not_run(
    value: Callable[[], object], name: str, way: str, is_zip: bool, tmp_path: Path
) -> None:
    path = saved(tmp_path / "w.pth", value(), _use_new_zipfile_serialization=is_zip)
    text = refusal(path)
    assert "VGG552" in text
    assert name in text
    assert way in text


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    for is_zip in (True, False):
        torch.save({"x": Bomb()}, tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
        assert "VGG552" in refusal(tmp_path / "w.pth")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Bomb()))
    assert "VGG552" in refusal(tmp_path / "w.pkl")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda: {"w": rand(2, 2).to_sparse()}, "`w` is a tensor that is sparse"),
        (lambda: {"w": torch.quantize_per_tensor(rand(2), 1.0, 0, torch.qint8)}, ".dequantize()"),
        (lambda: {"w": torch.empty(2, 2, device="meta")}, "without data (meta)"),
        (lambda: {"w": rand(2, 2).to(torch.complex64).conj().imag}, "negated lazily"),
        (lambda: [rand(2, 2), rand(2)], "it contains a list of 2 tensors, without names"),
        (lambda: rand(2, 2), "it contains one tensor, without a name"),
        (lambda: {"lr": 1, "epoch": 2}, "it contains `lr`, `epoch`"),
        (dict, "it contains nothing"),
        (lambda: {"w": torch.arange(9)}, "it contains `w`"),
    ],
)  # fmt: skip
def test_other_contents_are_named(value: Callable[[], object], words: str, tmp_path: Path) -> None:
    assert words in refusal(saved(tmp_path / "w.pth", value()))


def test_few_bytes_do_not_take_much_memory(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"w": torch.zeros(1).expand(1 << 30, 8)})
    assert "would take 34,360 MB" in refusal(path)
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in "ab":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f4", "fortran_order": False, "shape": (10, 1 << 20)}
            )
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(40 << 20))
    assert "VGG556" in refusal(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        old = zipfile.ZipFile(io.BytesIO(_pth(bytes(48))))
        for name in old.namelist():  # one small tensor of a large storage
            archive.writestr(name, bytes(76 << 20) if "/data/0" in name else old.read(name))
    assert "VGG556" in refusal(tmp_path / "x.pth")


def test_what_the_archive_says_of_a_size_is_not_believed(tmp_path: Path) -> None:
    saved(tmp_path / "w.pth", state())
    data = bytearray((tmp_path / "w.pth").read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"/data/0"))
    data[at + 24 : at + 28] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "w.pth").write_bytes(data)
    assert "more bytes than the file can hold" in refusal(tmp_path / "w.pth")


FOREIGN = [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "w.pth", "git lfs pull"),
    (b"\n<!DOCTYPE html><html>403</html>", "w.pth", "a web page"),
    (b"\xef\xbb\xbf<html lang=de>", "w.pth", "a web page"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "w.pth", "an XML page"),
    (b'{"metadata": {}, "weight_map": {"a": "b"}}', "m.safetensors.index.json", "join the"),
    (b"GGUF\x03\0\0\0" + bytes(99), "w.gguf", "a GGUF file"),
    (b"\x1c\0\0\0TFL3" + bytes(99), "w.tflite", "a TensorFlow Lite model"),
    (b"\x1c\0\0\0ET12" + bytes(99), "w.pte", "an ExecuTorch program"),
    (b"ftrt\0\0" + bytes(99), "w.plan", "a TensorRT engine"),
    (b"\x12\x01\0\0\0\0\0\0" + bytes(99), "w.params", "in MXNet"),
    (b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential", "w.t7", "a Torch7 file"),
    (b"\x1f\x8b\x08\0" + bytes(99), "w.pth.gz", "gunzip"),
    (b"BZh91AY", "w.bz2", "a bzip2 archive"),
    (b"\xfd7zXZ\0" + bytes(99), "w.xz", "an xz archive"),
    (b"\x28\xb5\x2f\xfd" + bytes(99), "w.zst", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(99), "w.7z", "a 7z archive"),
    (b"Rar!\x1a\x07", "w.rar", "a RAR archive"),
    (bytes(99) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "m.index", "tf.train.load_checkpoint"),
    (b"\x01\x02\x03" * 99, "model.ckpt.data-00000-of-00001", "tf.train.load_checkpoint"),
    (b"\x08\x01\x12\xff\xff\x01\n\x05" + bytes(9), "saved_model.pb", "a TensorFlow SavedModel"),
    (b"\n\x2a\n\x05input\x12\x0bPlaceholder" + bytes(9), "frozen.pb", "a frozen TensorFlow graph"),
    (bytes(4) + b"\x01" + bytes(3) + bytes(8) + b"\x11" * 99, "vgg-16.weights", "a Darknet file"),
    (bytes(4) + b"\x02" + bytes(3) + b"\x05" + bytes(99), "yolo.weights", "a Darknet file"),
    (b"\x81\xa6params\x82\xa5conv1" + bytes(9), "flax_model.msgpack", "in Flax"),
    (pickle.dumps([1.0, 2.0]), "w.pkl", "a Python pickle"),
    (pickle.dumps({"a": [1]}, 0), "w.pkl", "a Python pickle"),
    (b"\x89PNG\r\n\x1a\n", "w.png", "a picture"),
    (b"%PDF-1.7", "w.pdf", "a PDF document"),
    (b"\x7fELF\x02", "w.so", "a program"),
    (b"SQLite format 3\0", "w.db", "a SQLite database"),
    (b'{"epoch": 3}', "w.json", "a JSON file"),
    (b"net tiny\nconv3-8\n", "tiny.vgg", "vggspec import SPEC CHECKPOINT"),
    ("net tiny\n".encode("utf-16"), "tiny.vgg", "a text"),
    (b"", "w.pth", "an empty file"),
    (bytes(5000), "w.pth", "interrupted download"),
    (b"\xd3\xff" * 99, "w.pth", "a file of no known format"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "name", "words"), FOREIGN, ids=lambda value: str(value)[:20])
def test_other_formats_are_known_by_their_first_bytes(
    data: bytes, name: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    text = refusal(tmp_path / name)
    assert "VGG550" in text
    assert words in text


def test_the_advice_is_python() -> None:
    """What is to be typed into another tool compiles, the names in it being ours."""
    ways = [
        each.way for each in foreign_files.FORMATS if re.match(r"in (Keras|Tens|Fl|MX)", each.way)
    ]
    assert len(ways) >= 4
    for way in ways:
        compile(way.partition(": ")[2], "advice", "exec")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), p),
         "an ONNX model without weights"),
        (lambda p: np.save(p, np.zeros(3)), "one array without a name"),
        (lambda p: np.save(p, {"conv1": [np.zeros(3)]}, allow_pickle=True), "a pickled object in"),
        (lambda p: pickle.dump({"a": np.zeros(3)}, p.open("wb")), "VGG552"),
        (lambda p: np.savez(p.with_suffix(""), a=np.array({}, object)), "pickled objects in `a`"),
    ],
)  # fmt: skip
def test_what_other_tools_write_is_known(
    write: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.npy"
    write(path)
    path = next(tmp_path.iterdir()).rename(tmp_path / "w.pth")
    assert words in refusal(path)


def test_archives_around_checkpoints(tmp_path: Path) -> None:
    saved(tmp_path / "w.pth", state())
    for members, words in (
        (["w.pth"], "a zip archive around a checkpoint"),
        (
            ["x/archive_format", "x/models/model.json", "x/data/weights/model_weights_config.json"],
            "torch.export.load",
        ),
        (["m/saved_model.pb"], "a TensorFlow model"),
        (["Data/com.apple.CoreML/model.mlmodel"], "a Core ML model"),
        (["readme.txt"], "a zip archive without a checkpoint"),
        ([], "VGG554"),
    ):
        with zipfile.ZipFile(tmp_path / "z", "w") as archive:
            for member in members:
                archive.write(tmp_path / "w.pth", member)
        assert words in refusal(tmp_path / "z")
    with tarfile.open(tmp_path / "t", "w") as tar:
        tar.add(tmp_path / "w.pth", "w.pth")
    assert "a tar archive" in refusal(tmp_path / "t")
    safetensors.torch.save_file(state(), tmp_path / "model-00001-of-00003.safetensors")
    assert "one of several parts" in refusal(tmp_path / "model-00001-of-00003.safetensors")
    (tmp_path / "hf").mkdir()
    safetensors.torch.save_file(state(), tmp_path / "hf" / "model.safetensors")
    assert "name a file in it: `model.safetensors`" in refusal(tmp_path / "hf")


def _pth(data: bytes) -> bytes:
    """A file of PyTorch whose member 0 holds ``data`` and whose pickle is for 4 × 3 numbers."""
    file = io.BytesIO()
    torch.save({"w": torch.arange(12.0).reshape(4, 3)}, file)
    with zipfile.ZipFile(file) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, whole in members.items():
            archive.writestr(name, data if name.endswith("/data/0") else whole)
    return out.getvalue()


def test_numbers_that_are_not_there_are_not_invented(tmp_path: Path) -> None:
    """``torch.load`` would give the storage the size that the pickle says."""
    path = tmp_path / "w.pth"
    path.write_bytes(_pth(np.arange(12, dtype=np.float32).tobytes()))
    assert read_checkpoint(path).tensors["w"].sum() == 66
    path.write_bytes(_pth(np.arange(11, dtype=np.float32).tobytes()))
    assert "VGG551" in refusal(path)


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    "member",
    [
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000000,)}"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(4)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1152921504606846976)}"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)),
        _npy("{'descr': '<f4', 'fortran_order': False}"),
        _npy("{'descr': 'nothing', 'fortran_order': False, 'shape': (1,)}", bytes(4)),
        _npy("(" * 30000),
        _npy("[]" * 30000),
        b"\x93NUMPY\x02\0\xff\xff\xff\xff",
        b"\x93NUMPY\x09\0\0\0",
        b"\x93NUM",
        b"",
    ],
    ids=lambda value: str(value[10:60]),
)
def test_headers_of_arrays_are_not_believed(member: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", member)
    assert "VGG551" in refusal(tmp_path / "w.npz")


def test_headers_by_python_2_are_read(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L)}"
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", _npy(header, np.arange(6, dtype="<f4").tobytes()))
    assert read_checkpoint(tmp_path / "w.npz").tensors["w"].shape == (2, 3)


@pytest.mark.parametrize("kind", ["zip", "legacy", "npz", "packed", "safetensors"])
def test_every_cut_is_noticed(kind: str, tmp_path: Path) -> None:
    data = _whole(kind, tmp_path)
    for end in range(1, len(data), max(1, len(data) // 60)):
        (tmp_path / "cut").write_bytes(data[:end])
        assert "VGG55" in refusal(tmp_path / "cut"), end


@pytest.mark.parametrize("kind", ["zip", "npz", "packed"])
def test_every_flipped_bit_in_an_archive_is_noticed_or_does_not_matter(
    kind: str, tmp_path: Path
) -> None:
    """Archives have checksums; what lies between their members has none, and holds no number."""
    data = bytearray(_whole(kind, tmp_path))
    whole = read_checkpoint(tmp_path / "whole").tensors
    noticed = 0
    for at in range(0, len(data), max(1, len(data) // 150)):
        data[at] ^= 4
        (tmp_path / "flipped").write_bytes(data)
        data[at] ^= 4
        try:
            found = read_checkpoint(tmp_path / "flipped").tensors
        except VggspecError:
            noticed += 1
            continue
        for name, array in found.items():
            np.testing.assert_array_equal(array, whole.get(name, array))
    assert noticed > 10


def _whole(kind: str, folder: Path) -> bytes:
    path = folder / "whole"
    arrays = {name: tensor.numpy() for name, tensor in state().items()}
    if kind in ("zip", "legacy"):
        saved(path, state(), _use_new_zipfile_serialization=kind == "zip")
    elif kind == "safetensors":
        safetensors.numpy.save_file(arrays, path)
    else:
        with path.open("wb") as file:
            (np.savez if kind == "npz" else np.savez_compressed)(file, **arrays)
    return path.read_bytes()


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    whole = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(4))
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", whole)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("w.npy", whole)
    assert "is in it twice" in refusal(tmp_path / "w.npz")


def test_a_member_without_a_name_is_no_fault_of_ours(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w", b"")
    data = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(data.replace(b"w", b"\0"))  # a name ends at its first NUL
    assert "a zip archive without a checkpoint" in refusal(tmp_path / "w.npz")


def test_an_array_without_a_number_type_is_named(tmp_path: Path) -> None:
    """NumPy does not know bfloat16, and saves its bytes alone."""
    whole = rand(2, 3).numpy()
    np.savez(tmp_path / "w.npz", a=whole, b=whole.astype(ml_dtypes.bfloat16))
    said = refusal(tmp_path / "w.npz")
    assert "VGG555" in said
    assert "`b` is an array without a number type, as NumPy saves bfloat16" in said


def test_hostile_safetensors(tmp_path: Path) -> None:
    def header(entries: object) -> bytes:
        text = json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text

    for entries in (
        {"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F99\x1b[1m", "shape": [1], "data_offsets": [0, 4]}},
        {"w\0\x1b[31m": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}},
        {"w": None},
    ):
        (tmp_path / "w").write_bytes(header(entries) + bytes(4))
        assert "VGG551" in refusal(tmp_path / "w")
    twice = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32"}}'
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(twice)) + twice + bytes(4))
    assert "`w` stands twice" in refusal(tmp_path / "w")
    (tmp_path / "w").write_bytes(struct.pack("<Q", 1 << 39) + b"{")
    assert "VGG551" in refusal(tmp_path / "w")
