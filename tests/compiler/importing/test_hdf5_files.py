"""HDF5 files from strangers: nothing from outside of them, and nothing beyond their size."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.refusals import refused
from vggspec.compiler.importing.checkpoint import read_checkpoint

KERNEL = np.arange(3 * 3 * 3 * 4, dtype=np.float32).reshape(3, 3, 3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A legacy file of one conv, as Keras 2 wrote it."""
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file.attrs["keras_version"] = b"2.4.0"
        file.create_group("conv").attrs["weight_names"] = [b"conv/kernel:0"]
        file["conv/conv/kernel:0"] = KERNEL
    return path


def replaced(path: Path) -> h5py.File:
    """The file without its kernel."""
    file = h5py.File(path, "r+")
    del file["conv/conv/kernel:0"]
    return file


def test_it_is_read(path: Path) -> None:
    read = read_checkpoint(path)
    assert (read.kind, read.known.layout, read.has_order) == ("keras", "hwio", True)
    np.testing.assert_array_equal(read.tensors["conv/kernel:0"], KERNEL)


def test_numbers_of_other_files_are_not_read(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["kernel:0"] = KERNEL
    raw = tmp_path / "secret"
    raw.write_bytes(KERNEL.tobytes())
    with replaced(path) as file:
        file["conv/conv/kernel:0"] = h5py.ExternalLink(str(other), "kernel:0")
    with refused("VGG555.*a link to another place"):
        read_checkpoint(path)
    with replaced(path) as file:
        file["conv/conv/kernel:0"] = h5py.SoftLink("/conv")
    with refused("VGG555.*a link to another place"):
        read_checkpoint(path)
    with replaced(path) as file:
        file["conv/conv"].create_dataset(
            "kernel:0", KERNEL.shape, "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
        )
    with refused("VGG555.*a list of places in other files"):
        read_checkpoint(path)
    with replaced(path) as file:
        view = h5py.VirtualLayout(KERNEL.shape, "f4")
        view[:] = h5py.VirtualSource(str(other), "kernel:0", KERNEL.shape)
        file["conv/conv"].create_virtual_dataset("kernel:0", view)
    with refused("VGG555.*a view of other files"):
        read_checkpoint(path)


def test_numbers_that_are_not_there_are_no_zeros(path: Path) -> None:
    with replaced(path) as file:
        file["conv/conv"].create_dataset("kernel:0", KERNEL.shape, "f4")
    with refused("VGG551.*needs 432 bytes, the file has 0 of them"):
        read_checkpoint(path)


def test_small_files_take_no_large_memory(path: Path) -> None:
    with replaced(path) as file:
        file["conv/conv"].create_dataset("kernel:0", (1 << 14, 1 << 14), "f4", compression="gzip")
    with refused("(?s)VGG555.*stored in chunks.*h5repack"):
        read_checkpoint(path)
    with replaced(path) as file:
        file["conv/conv/kernel:0"] = np.zeros(50_000, np.float32)
        for i in range(500):  # one block by many names
            file[f"conv/{i}"] = file["conv/conv/kernel:0"]
        file["conv"].attrs["weight_names"] = [f"{i}".encode() for i in range(500)]
    with refused("VGG556.*100 MB, and the file has 0"):
        read_checkpoint(path)


def test_a_tree_without_an_end_is_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["conv/inner"] = file["conv"]
    with refused("VGG551.*nested too deeply"):
        read_checkpoint(path)


def test_every_cut_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(1, len(whole), 97):
        path.write_bytes(whole[:length])
        with refused("VGG551|VGG550"):
            read_checkpoint(path)
    path.write_bytes(whole[:2000])
    with refused(rf"VGG551.*it has 2000 of {len(whole)} bytes"):
        read_checkpoint(path)


def test_lists_that_contradict_the_file_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"conv", b"other"]
    with refused("VGG551.*`other` is in its list of layers, and not in the file"):
        read_checkpoint(path)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"conv"]
        file["conv"].attrs["weight_names"] = [b"conv/kernel:0", b"conv/bias:0"]
    with refused("VGG551.*`conv/bias:0` is in its list of weights, and not there"):
        read_checkpoint(path)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = np.zeros(3)
    with refused("VGG551.*`layer_names` is no text"):
        read_checkpoint(path)


def test_kernels_of_theano_are_refused(path: Path) -> None:
    """They are the other way round, and upside down."""
    with replaced(path) as file:
        del file.attrs["keras_version"]
        file["conv/conv/kernel:0"] = KERNEL.transpose(3, 2, 0, 1)
    with refused("VGG555.*Keras 1 on Theano"):
        read_checkpoint(path)


def test_the_names_of_keras_1(path: Path) -> None:
    """As the published files of VGG-16 have them."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1", b"block1_pool"]
        group = file.create_group("block1_conv1")
        file.create_group("block1_pool").attrs["weight_names"] = np.zeros(0)
        group.attrs["weight_names"] = [b"block1_conv1_W_1:0", b"block1_conv1_b_1:0"]
        group["block1_conv1_W_1:0"], group["block1_conv1_b_1:0"] = KERNEL, KERNEL[0, 0, 0]
    assert list(read_checkpoint(path).tensors) == ["block1_conv1/W_1:0", "block1_conv1/b_1:0"]


def test_files_of_others_are_no_checkpoints(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["measurements"] = KERNEL
    with refused("VGG550.*an HDF5 file that Keras did not write"):
        read_checkpoint(path)


def test_without_h5py_the_command_to_install_it_is_named(path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['h5py'] = None\n"
        "from vggspec.cli import run\n"
        "sys.exit(run(['import', 'D', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert 'reading Keras\'s files needs h5py: pip install "vggspec[keras]"' in done.stderr
