"""The PyTorch module carries the layers' names, and one weights file serves both of its forms."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vggspec
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from vggspec.compiler.backends.torch import module as torch_module


def test_names_are_the_layers(specs: Path) -> None:
    with torch.device("meta"):
        module = torch_module.emit(vggspec.network(str(specs / "D.vgg")))
    weights = {name.rpartition(".")[0] for name in module.state_dict()}
    convs = {
        f"conv{b}_{i}" for b, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, n + 1)
    }
    assert weights == convs | {"fc6", "fc7", "fc8"}
    assert isinstance(module.get_submodule("conv5_3"), torch.nn.Conv2d)
    assert isinstance(module.get_submodule("drop7"), torch.nn.Dropout)
    assert sum(p.numel() for p in module.parameters()) == 138_357_544


def test_parameter_counts_are_torchs_own(specs: Path) -> None:
    """Counted by PyTorch from the modules, not by the IR."""
    published = {
        "A": 132_863_336, "A-LRN": 132_863_336, "B": 133_047_848, "C": 133_638_952,
        "D": 138_357_544, "E": 143_667_240, "alexnet": 60_965_224, "zfnet": 62_357_608,
        "overfeat-fast": 145_920_872, "vgg-f": 60_834_536, "vgg-m": 102_908_520,
        "vgg-s": 102_908_520, "vgg16-bn": 138_365_992,
    }  # fmt: skip
    for name, number in published.items():
        with torch.device("meta"):
            module = torch_module.emit(vggspec.network(str(specs / f"{name}.vgg")))
        assert sum(p.numel() for p in module.parameters()) == number, name


def test_both_forms_take_the_same_state(tmp_path: Path) -> None:
    lowered = net(SMALL)
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(lowered, tmp_path / "w.safetensors")
    spec = str(tmp_path / "small.vgg")
    crop = vggspec.torch_module(spec, tmp_path / "w.safetensors").eval()
    dense = vggspec.torch_module(spec, tmp_path / "w.safetensors", dense=True).eval()
    assert crop.state_dict().keys() == dense.state_dict().keys()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = crop(x.clone())
        torch.testing.assert_close(dense(x.clone()), expected)
        for module in (crop, dense):
            module.load_state_dict(load_file(tmp_path / "w.safetensors"))
            module.load_state_dict(crop.state_dict())
            module.load_state_dict(dense.state_dict())
            torch.testing.assert_close(module(x.clone()), expected)
        larger = dense(torch.randn(1, 3, 47, 61))
    assert larger.shape == (1, 10)
    assert float(larger.sum()) == pytest.approx(1, abs=1e-5)


def test_training_a_module_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), path)
    before, stored = path.read_bytes(), load_file(path)
    module = vggspec.torch_module(str(tmp_path / "small.vgg"), path)
    optimiser = torch.optim.SGD(module.parameters(), 0.5)
    module(torch.randn(2, 3, 32, 32)).log().sum().backward()
    optimiser.step()
    assert not torch.equal(module.state_dict()["conv1_1.weight"], stored["conv1_1.weight"])
    assert path.read_bytes() == before


def test_the_map_comes_as_a_second_output(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    module = vggspec.torch_module(str(tmp_path / "small.vgg"), dense=True, keep_map=True).eval()
    with torch.inference_mode():
        found = module(torch.randn(1, 3, 40, 48))
    assert found["posteriors"].shape == (1, 10)
    assert found["score_map"].shape == (1, 10, 3, 5)


def test_a_wrong_shape_is_still_refused() -> None:
    module = torch_module.emit(net(SMALL).network)
    state = module.state_dict()
    state["fc3.weight"] = state["fc3.weight"].T
    with pytest.raises(RuntimeError, match="size mismatch"):
        module.load_state_dict(state)


def test_training_it_moves_every_parameter() -> None:
    module = torch_module.emit(net(SMALL).network).train()
    loss = module(torch.randn(4, 3, 32, 32))[:, 0].log().mean()
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL.replace("FC-24", "FC-25")), tmp_path / "w.safetensors")
    with refused("VGG503"):
        vggspec.torch_module(str(tmp_path / "small.vgg"), tmp_path / "w.safetensors")
