"""Numbers that are not those that were written, or are not finite, are refused wherever all of them
are read; what was not read is said.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors import safe_open

from tests.fuzz import seeds
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused, told
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.manifest import WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.bundling.engine import checking
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.weights import checked, describe, for_net, open_weights, save
from vggspec.training.checkpoint import MOMENTUM, read_checkpoint, write_checkpoint
from vggspec.training.checkpoint import WEIGHTS as CHECKPOINTED
from vggspec.training.start import initial_weights
from vggspec.training.state import Plateau, TrainState

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """The command in a folder with the spec ``small.vgg``: code, stdout and stderr."""
    (tmp_path / "small.vgg").write_text(SMALL)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(list(arguments))
        return code, *capfd.readouterr()

    return call


def flip(path: Path, at: int) -> None:
    """Flip a bit of a file, as the disk might: other names of it keep what they had."""
    data = bytearray(path.read_bytes())
    path.unlink()
    data[at] ^= 1
    path.write_bytes(data)


def edited(source: Path, target: Path) -> Path:
    """A file as another program writes it that adds to a number and keeps the metadata."""
    with safe_open(source, "numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(source)
    tensors["fc4.bias"] = tensors["fc4.bias"] + np.float32(0.25)
    safetensors.numpy.save_file(tensors, target, metadata)
    return target


def edited_in_place(source: Path, target: Path) -> Path:
    """The same, by a program that leaves the header as it is."""
    weights, data = open_weights(source), bytearray(source.read_bytes())
    at = weights.tensors["fc4.bias"].offset
    data[at : at + 4] = np.float32(0.25).tobytes()
    target.write_bytes(data)
    return target


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(VggspecError) as error:
        call()
    return error.value.reports[0].what.code


# Weights files.


def test_a_flipped_bit_of_a_header_is_noticed(tmp_path: Path) -> None:
    lowered = net(seeds.TINY)
    whole = random_weights(lowered, tmp_path / "whole")
    data, path, refused = bytearray(whole.path.read_bytes()), tmp_path / "w", 0
    for at in range(0, whole.data_start, 2):
        bit = 1 << at % 8
        data[at] ^= bit
        path.write_bytes(data)
        data[at] ^= bit
        try:
            found = open_weights(path)
        except VggspecError:
            refused += 1
        else:  # the name under which the header's own digest stands
            assert found.metadata == whole.metadata, at
            assert found.tensors == whole.tensors, at
    assert refused > 0.4 * whole.data_start
    path.write_bytes(data)
    assert open_weights(path).metadata == whole.metadata


def test_large_weights_whose_header_vouches_for_them_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggspec.compiler.weights.HASHED_ON_OPEN_BYTES", 0)
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w")
    changed = open_weights(edited_in_place(weights.path, tmp_path / "changed"))
    assert not for_net(changed, lowered.network).is_read
    assert code_of(lambda: for_net(changed, lowered.network, is_read=True)) == "VGG507"
    assert for_net(weights, lowered.network, is_read=True).is_read
    # What does not say that it is finite is read.
    stated = replace(changed, metadata=replace(changed.metadata, is_finite=False))
    assert code_of(lambda: for_net(stated, lowered.network)) == "VGG507"


def test_a_strangers_file_is_read_once_and_digested(tmp_path: Path) -> None:
    path = tmp_path / "w"
    safetensors.numpy.save_file({"a": np.ones(5, np.float32)}, path)
    found = checked(open_weights(path), ["a"], is_read=False)
    assert found.is_read
    assert found.metadata.data_sha256 == found.data_sha256() == open_weights(path).data_sha256()


def test_import_says_that_a_header_was_changed(tmp_path: Path, cli: Cli) -> None:
    whole = random_weights(net(SMALL), tmp_path / "whole.safetensors").path
    data = whole.read_bytes()
    assert b'"vggspec.net":"small"' in data
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(data.replace(b'"vggspec.net":"small"', b'"vggspec.net":"smell"'))
    code, _, err = cli("import", "small.vgg", str(changed), "-o", "new.safetensors")
    assert (code, "the header was changed" in err) == (0, True)


@pytest.mark.parametrize("edit", [edited, edited_in_place])
@pytest.mark.parametrize("options", [(), ("--link-weights",), ("--single-file",), ("--protocol",)])
def test_changed_weights_are_refused_and_what_mends_it_does(
    tmp_path: Path, cli: Cli, edit: Callable[[Path, Path], Path], options: tuple[str, ...]
) -> None:
    whole = random_weights(net(SMALL), tmp_path / "whole.safetensors")
    changed = edit(whole.path, tmp_path / "changed.safetensors")
    code, _, err = cli("compile", "small.vgg", "--weights", "changed.safetensors", *options)
    assert (code, "VGG507" in err) == (1, True)
    assert "vggspec import SPEC FILE -o NEW.safetensors" in err
    assert not (tmp_path / "small").exists()
    code, _, err = cli("import", "small.vgg", str(changed), "-o", "new.safetensors")
    assert (code, "were changed after the file was written" in err) == (0, True)
    code, _, err = cli("import", "small.vgg", str(whole.path), "-o", "same.safetensors")
    assert (code, "were changed" in err) == (0, False)
    assert cli("compile", "small.vgg", "--weights", "new.safetensors", *options)[0] == 0
    open_bundle("small", deep=True)


def test_inspect_says_what_was_not_read(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_weights(net(SMALL), tmp_path / "w.safetensors")
    monkeypatch.setattr("vggspec.compiler.weights.HASHED_ON_OPEN_BYTES", 0)
    assert cli("compile", "small.vgg", "--weights", "w.safetensors")[0] == 0
    _, out, _ = cli("inspect", "small")
    (line,) = (line for line in out.splitlines() if WEIGHTS in line)
    assert "as the file states it, not read" in line
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli("compile", "small.vgg", "--weights", "w.safetensors")[0] == 0
    assert "not read" not in cli("inspect", "small")[1]


def test_an_engines_builder_compares_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggspec.compiler.weights.HASHED_ON_OPEN_BYTES", 0)
    lowered = net(SMALL)
    whole = random_weights(lowered, tmp_path / "w")
    with checking(for_net(whole, lowered.network)) as check:
        check()
    changed = open_weights(edited_in_place(whole.path, tmp_path / "changed"))
    with checking(for_net(changed, lowered.network)) as check:
        assert code_of(check) == "VGG507"


def test_what_mends_changed_weights_of_a_bundle_is_told(tmp_path: Path) -> None:
    """Weights that contradict their own header cannot be compiled again; others can."""
    lowered = net(SMALL)
    bundle = tmp_path / "bundle"
    write_bundle(lowered, random_weights(lowered, tmp_path / "w"), bundle, CompileOptions())
    flip(bundle / WEIGHTS, -1)
    with refused("SHA-256 is another") as error:
        open_bundle(bundle)
    assert error.value.reports[0].what.code == "VGG524"
    assert "vggspec import SPEC FILE" in told(error.value)
    other = random_weights(lowered, tmp_path / "other", seed=1)
    (bundle / WEIGHTS).write_bytes(other.path.read_bytes())
    with refused("SHA-256 is another") as error:
        open_bundle(bundle)
    assert "help: compile the bundle again" in told(error.value)


# Checkpoints.


def checkpoint(run: Path, step: int = 7) -> Path:
    """A run with a checkpoint; its folder."""
    network = net(seeds.TINY).network
    random = np.random.default_rng(step)
    tensors = {
        param.name: torch.from_numpy(random.standard_normal(param.stored).astype(np.float32))
        for param in network.params()
    }
    state = TrainState(
        plateau=Plateau(rate=0.01, decay=10.0, decays_left=3, patience=2), step=step, batches=3
    )
    labels = ("a", "b", "c")
    described = describe(network, mean=(1.0, 2.0, 3.0), labels=labels)
    write_checkpoint(run, network, tensors, tensors, state, described=described)
    return run / "checkpoints" / f"{step:09}"


@pytest.mark.parametrize("name", [CHECKPOINTED, MOMENTUM])
def test_a_flipped_bit_of_a_checkpoint_is_not_resumed(tmp_path: Path, name: str) -> None:
    folder, network = checkpoint(tmp_path / "run"), net(seeds.TINY).network
    assert read_checkpoint(tmp_path / "run", network) is not None
    flip(folder / name, -5)
    with pytest.raises(VggspecError) as error:
        read_checkpoint(tmp_path / "run", network)
    (report,) = error.value.reports
    assert (report.what.code, report.path) == ("VGG493", str(folder))
    assert name in report.what.title()
    # The copy under another name is whole, and can be used.
    assert str(tmp_path / "run" / "last.safetensors") in (report.what.help() or "")


def test_another_state_of_a_run_is_not_resumed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "run")
    data = (folder / MOMENTUM).read_bytes()
    assert data.count(b'\\"rate\\": 0.01') == 1
    (folder / MOMENTUM).write_bytes(data.replace(b'\\"rate\\": 0.01', b'\\"rate\\": 0.03'))
    assert code_of(lambda: read_checkpoint(tmp_path / "run", net(seeds.TINY).network)) == "VGG493"


def test_the_checkpoint_before_a_damaged_one_is_named(tmp_path: Path) -> None:
    network = net(seeds.TINY).network
    older = checkpoint(tmp_path / "run").rename(tmp_path / "kept")
    newer = checkpoint(tmp_path / "run", step=9)
    older = older.rename(newer.parent / "000000007")  # as a kill leaves it
    flip(newer / MOMENTUM, -1)
    with pytest.raises(VggspecError) as error:
        read_checkpoint(tmp_path / "run", network)
    assert f"the previous checkpoint, {older}" in told(error.value)
    newer.rename(tmp_path / "away")
    found = read_checkpoint(tmp_path / "run", network)
    assert found is not None
    assert found.state.step == 7


@pytest.mark.parametrize("edit", [edited_in_place, edited])
def test_changed_weights_start_nothing(
    tmp_path: Path, cli: Cli, edit: Callable[[Path, Path], Path]
) -> None:
    whole = random_weights(net(SMALL), tmp_path / "whole")
    child = SMALL.replace("net small", "net child") + 'train:\n  start from "small.vgg"\n'
    lowered = net(child, str(tmp_path / "child.vgg"))
    edit(whole.path, tmp_path / "small.safetensors")
    assert code_of(lambda: list(initial_weights(lowered, 0))) == "VGG507"
    (tmp_path / "small.safetensors").write_bytes(whole.path.read_bytes())
    assert dict(initial_weights(lowered, 0)).keys() == whole.tensors.keys()


# Numbers that are not finite.


def spoilt(folder: Path, name: str, value: float, *, is_ours: bool) -> Path:
    """Weights one of which is no finite number, written by us or by a stranger."""
    lowered, path = net(SMALL), folder / "spoilt.safetensors"
    file = random_weights(lowered, folder / "he.safetensors")
    arrays = {param.name: file.read(param.name).copy() for param in lowered.network.params()}
    arrays[name].reshape(-1)[3] = value
    if is_ours:
        save(path, arrays, describe(lowered.network))
    else:
        safetensors.numpy.save_file(arrays, path)
    return path


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize(
    "options",
    [(), ("--map",), ("--protocol",), ("--single-file",), ("--link-weights",)],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_bias_of_minus_infinity_is_refused_in_every_form(
    tmp_path: Path, cli: Cli, options: tuple[str, ...], *, is_ours: bool
) -> None:
    path = spoilt(tmp_path, "fc4.bias", -np.inf, is_ours=is_ours)
    code, _, err = cli("compile", "small.vgg", "--weights", str(path), *options)
    assert code == 1
    assert "error[VGG506]" in err
    assert "1 of 10 numbers in `fc4.bias` is -inf" in err
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("is_ours", [True, False])
def test_large_weights_that_are_not_finite_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_ours: bool
) -> None:
    """Also where large files are linked without being read."""
    monkeypatch.setattr("vggspec.compiler.weights.HASHED_ON_OPEN_BYTES", 0)
    lowered = net(SMALL)
    weights = open_weights(spoilt(tmp_path, "conv1_1.weight", np.nan, is_ours=is_ours))
    with refused(r"1 of 216 numbers in `conv1_1\.weight` is NaN"):
        write_bundle(lowered, weights, tmp_path / "bundle", CompileOptions())


def test_a_module_takes_no_weights_that_are_not_finite(tmp_path: Path) -> None:
    weights = open_weights(spoilt(tmp_path, "fc3.weight", np.inf, is_ours=True))
    with refused(r"numbers in `fc3\.weight` is inf"):
        torch_module.loaded(net(SMALL).network, weights)


def test_a_classifier_that_is_not_used_does_not_count(tmp_path: Path, cli: Cli) -> None:
    path = spoilt(tmp_path, "fc4.weight", np.nan, is_ours=True)
    for layer, wanted in (("fc3", 0), ("fc4", 1)):
        code, _, err = cli("compile", "small.vgg", "--weights", str(path), "--layer", layer)
        assert code == wanted, err


def test_a_file_says_whether_its_numbers_are_finite(tmp_path: Path) -> None:
    for value, wanted in ((1.0, "yes"), (np.nan, "not")):
        save(tmp_path / "w", {"a": np.full(3, value, np.float32)}, describe(net(SMALL).network))
        with safe_open(tmp_path / "w", "numpy") as file:
            assert file.metadata()["vggspec.finite"] == wanted
