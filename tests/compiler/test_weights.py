"""Weights files: what is written can be read by others, and what strangers write does no harm."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.nets import SMALL, net, random_weights
from tests.refusals import refused, told
from vggspec.base.diagnostic import VggspecError
from vggspec.base.safetensors_header import ALIGNMENT, MAX_HEADER_BYTES
from vggspec.bundle.digests import digest
from vggspec.compiler.weights import (
    Metadata,
    check_fits,
    describe,
    layers_sha256,
    not_finite,
    open_weights,
    save,
)


def arrays(**shapes: tuple[int, ...]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def test_the_safetensors_library_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    wanted = arrays(a=(3, 5), b=(64,), c=(1,), d=(2, 64, 4), e=(7,))
    metadata = Metadata(net="t", mean=(1.5, 2.0, 3.0), labels=("a", "ß"), more={"who": "me"})
    sha256 = save(path, wanted, metadata)
    found = safetensors.numpy.load_file(path)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    opened = open_weights(path)
    for name, array in wanted.items():
        np.testing.assert_array_equal(opened.read(name), array)
    assert opened.metadata.mean == (1.5, 2.0, 3.0)
    assert opened.metadata.labels == ("a", "ß")
    assert opened.metadata.more["who"] == "me"
    assert opened.metadata.data_sha256 == sha256 == digest(path, opened.data_start)


def test_every_tensor_that_can_be_is_aligned(tmp_path: Path) -> None:
    wanted = arrays(odd1=(3,), even1=(64,), odd2=(65,), even2=(2, 64), even3=(64, 3, 3, 3))
    save(tmp_path / "w", wanted, Metadata())
    opened = open_weights(tmp_path / "w")
    assert opened.data_start % ALIGNMENT == 0
    in_order = sorted(opened.tensors.items(), key=lambda item: item[1].offset)
    unaligned = [name for name, tensor in in_order if tensor.offset % ALIGNMENT]
    # The format has no gaps, so only what follows an odd size can be off.
    assert unaligned == ["odd2"]


def test_every_tensor_of_the_papers_nets_is_aligned(specs: Path) -> None:
    from math import prod

    from vggspec.compiler.lower import load_network

    for net_name in ("A", "B", "C", "D", "E", "A-LRN"):
        network = load_network(f"{specs / 'table1.vgg'}:{net_name}").network
        odd = [p for p in network.params() if (4 * prod(p.stored)) % ALIGNMENT]
        assert [param.name for param in odd] == ["fc8.bias"]  # one, so it can be the last


def test_a_strangers_file_is_hashed_by_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(arrays(a=(3, 5)), path)
    opened = open_weights(path)
    assert opened.metadata.data_sha256 is None
    assert opened.data_sha256() == digest(path, opened.data_start)


def header(entries: object, data: bytes = b"") -> bytes:
    body = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(body)) + body + data


A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

HOSTILE = {
    "empty": b"",
    "seven bytes": b"1234567",
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "header over the limit": struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}",
    "not JSON": header(b"{]"),
    "not UTF-8": header(b"\xff\xfe"),
    "not a table": header([1]),
    "deeply nested": header(b"[" * 100_000),
    "a name twice": header(b'{"a":%s,"a":%s}' % ((json.dumps(A).encode(),) * 2), bytes(8)),
    "metadata of numbers": header({"__metadata__": {"x": 1}}),
    "entry is a number": header({"a": 3}),
    "entry lacks offsets": header({"a": {"dtype": "F32", "shape": [2]}}),
    "unknown type": header({"a": {**A, "dtype": "F7"}}, bytes(8)),
    "negative size": header({"a": {**A, "shape": [-2]}}, bytes(8)),
    "size of a float": header({"a": {**A, "shape": [2.0]}}, bytes(8)),
    "size true": header({"a": {**A, "shape": [True, 2]}}, bytes(8)),
    "a hundred axes": header({"a": {**A, "shape": [1] * 99 + [2]}}, bytes(8)),
    "size 10^30": header({"a": {**A, "shape": [10**30]}}, bytes(8)),
    "offsets backwards": header({"a": {**A, "data_offsets": [8, 0]}}, bytes(8)),
    "offsets negative": header({"a": {**A, "data_offsets": [-8, 0]}}, bytes(8)),
    "offsets past the end": header({"a": {**A, "data_offsets": [0, 800]}}, bytes(8)),
    "shape and size disagree": header({"a": {**A, "shape": [3]}}, bytes(8)),
    "overlap": header({"a": A, "b": A}, bytes(8)),
    "gap": header({"a": {**A, "data_offsets": [8, 16]}}, bytes(16)),
    "more data than the header says": header({"a": A}, bytes(9)),
    "cut off": header({"a": A}, bytes(7)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(VggspecError) as caught:
        open_weights(path)
    (found,) = caught.value.reports
    assert found.what.code == "VGG502"
    assert found.path == str(path)


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_read_within_its_bounds(
    tmp_path: Path, data: st.DataObject
) -> None:
    whole = header(
        {"__metadata__": {"k": "v"}, "a": A, "b": {**A, "data_offsets": [8, 16]}}, bytes(16)
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.binary(min_size=0, max_size=6))
    path = tmp_path / "w"
    path.write_bytes(whole[:at] + damage + whole[at + data.draw(st.integers(0, 6)) :])
    try:
        opened = open_weights(path)
    except VggspecError as error:
        if "error[VGG502]" not in str(error):
            raise
        return
    for tensor in opened.tensors.values():
        assert 0 <= tensor.offset <= tensor.offset + tensor.bytes <= path.stat().st_size


def test_weights_of_another_net_are_refused_with_what_differs(tmp_path: Path) -> None:
    other = net("net other\ninput 32x32 RGB\nconv3-8\nmaxpool\nconv3-16\nmaxpool\nFC-10\nsoft-max")
    weights = random_weights(other, tmp_path / "w")
    with pytest.raises(VggspecError) as caught:
        check_fits(weights, net(SMALL).network)
    text = told(caught.value)
    assert "these weights of net `other` do not fit net `small`" in text
    assert "bn1_1.weight is missing" in text
    assert "conv2_1.weight: 16 × 8 × 3 × 3 in the file, 16 × 4 × 3 × 3 in the net" in text


def test_tensors_that_the_net_does_not_have_are_refused(tmp_path: Path) -> None:
    lowered = net("net t\ninput 8x8 gray\nFC-2")
    wanted = arrays(**{"fc1.weight": (2, 64), "fc1.bias": (2,), "fc2.bias": (3,)})
    save(tmp_path / "w", wanted, Metadata())
    with refused(r"fc2\.bias is not in the net"):
        check_fits(open_weights(tmp_path / "w"), lowered.network)
    wanted = arrays(**{"fc1.weight": (2, 64), "fc1.bias": (2,), "bn.num_batches_tracked": (1,)})
    save(tmp_path / "w", wanted, Metadata())
    check_fits(open_weights(tmp_path / "w"), lowered.network)  # PyTorch's counter is no weight


def test_half_precision_is_refused(tmp_path: Path) -> None:
    lowered = net("net t\ninput 8x8 gray\nFC-2")
    tensors = {"fc1.weight": np.zeros((2, 64), np.float16), "fc1.bias": np.zeros(2, np.float16)}
    safetensors.numpy.save_file(tensors, tmp_path / "w")
    with refused(r"VGG504.*F16"):
        check_fits(open_weights(tmp_path / "w"), lowered.network)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("mean", "[1,"),
        ("mean", '["a"]'),
        ("mean", "{}"),
        ("mean", "[NaN]"),
        ("mean", f"[{'1' * 401}]"),
        ("mean", "[" * 100_000),
        ("labels", "x"),
        ("labels", "[1]"),
        ("labels", "3"),
        ("labels", '["\\ud800"]'),
        ("labels", '["\\u0000"]'),
        ("data_sha256", "abc"),
        ("layers_sha256", "g" * 64),
    ],
)
def test_metadata_of_ours_that_is_malformed_is_refused(key: str, text: str, tmp_path: Path) -> None:
    """As if it were absent, another mean or none would be taken without a word."""
    path = tmp_path / "w"
    safetensors.numpy.save_file(arrays(a=(1,)), path, metadata={f"vggspec.{key}": text})
    with refused(rf"VGG502.*`vggspec\.{key}`"):
        open_weights(path)


def test_what_import_reads_is_sent_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.ones(3, np.float32))
    with refused("VGG502") as error:
        open_weights(tmp_path / "w.npz")
    assert "`vggspec import SPEC FILE`" in (error.value.reports[0].what.help() or "")


def test_layers_that_were_exchanged_are_noticed(tmp_path: Path) -> None:
    """Names and shapes are those of the net, and the net is another one."""
    text = "net t\ninput 8x8 RGB\nconv3-3 as a\nconv3-3 as b\nFC-2\n"
    trained = net(text)
    edited = net(text.replace("conv3-3 as a\nconv3-3 as b", "conv3-3 as b\nconv3-3 as a"))
    weights = random_weights(trained, tmp_path / "w")
    check_fits(weights, trained.network)
    with refused(r"VGG531.*of net `t`"):
        check_fits(weights, edited.network)


def test_the_hash_of_the_layers_sees_names_and_shapes() -> None:
    texts = [SMALL, SMALL.replace("FC-24", "FC-25"), SMALL.replace("FC-24", "FC-24 as a")]
    hashes = {layers_sha256(net(text).network) for text in texts}
    assert len(hashes) == 3
    assert layers_sha256(net(SMALL.replace("net small", "net x")).network) in hashes


FULL_DISK = """
import resource, signal, sys
import numpy as np
from vggspec.compiler.weights import Metadata, save
from vggspec.base.diagnostic import VggspecError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(sys.argv[1], {"a": np.zeros(1_000_000, np.float32)}, Metadata())
except VggspecError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, arrays(a=(4,)), Metadata())
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert "VGG511" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_describe_names_the_net() -> None:
    network = net(SMALL).network
    assert describe(network, mean=(1.0, 2.0, 3.0)) == Metadata(
        net="small", layers_sha256=layers_sha256(network), mean=(1.0, 2.0, 3.0)
    )


def test_a_bundle_is_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "D/1").mkdir(parents=True)
    inside = tmp_path / "D/1/model.safetensors"
    inside.write_bytes(b"")
    with pytest.raises(VggspecError) as caught:
        open_weights(tmp_path / "D")
    assert f"it is a bundle; name `{inside}`" in caught.value.reports[0].what.title()


def test_numbers_that_are_not_finite_are_counted_by_their_kind() -> None:
    bias = np.zeros(1000, np.float32)
    assert not_finite({"fc8.bias": bias}) is None
    bias[7] = -np.inf
    found = not_finite({"conv1_1.bias": np.ones(3), "fc8.bias": bias})
    assert found is not None
    assert found.tensors == ("1 of 1000 numbers in `fc8.bias` is -inf",)
    bias[8:10], bias[10] = np.nan, np.inf
    found = not_finite({"fc8.bias": bias})
    assert found is not None
    assert found.tensors == (
        "4 of 1000 numbers in `fc8.bias` are not finite (2 NaN, 1 inf, 1 -inf)",
    )
