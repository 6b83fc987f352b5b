"""TorchScript archives: the tensors that ``torch.jit.load`` finds, without it."""

import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vggspec
from tests.refusals import refused
from vggspec.compiler.importing.checkpoint import read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.table = [1, 2], {"a": torch.ones(2)}
        convs = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.features = nn.Sequential(*convs, nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def saved(path: Path, how: str) -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = (
            torch.jit.trace(net, torch.zeros(1, 3, 8, 8))
            if how == "trace"
            else (torch.jit.script(net))
        )
        made = torch.jit.freeze(made) if how == "freeze" else made
        torch.jit.save(made, path)
    return net


@pytest.mark.parametrize("how", ["script", "trace"])
def test_tensors_by_the_way_to_them(how: str, tmp_path: Path) -> None:
    net = saved(tmp_path / "net.pt", how)
    found = read_checkpoint(tmp_path / "net.pt")
    assert (found.kind, found.has_order) == ("pytorch", True)
    expected = {k: v for k, v in net.state_dict().items() if v.is_floating_point()}
    assert list(found.tensors) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)
    spec = tmp_path / "n.vgg"
    spec.write_text("net n\ninput 8x8 RGB(mean 0)\nconv3-4 BN conv3-4\ngap FC-4 FC-3\n")
    vggspec.import_weights(spec, tmp_path / "net.pt", out=tmp_path / "out")
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        module = vggspec.torch_module(spec, tmp_path / "out")
        torch.testing.assert_close(module(x.clone()), net(x))


def test_frozen_weights_are_constants(tmp_path: Path) -> None:
    saved(tmp_path / "net.pt", "freeze")
    with refused(r"(?s)VGG554.*torch.jit.freeze"):
        read_checkpoint(tmp_path / "net.pt")


def test_nothing_that_it_names_is_called(tmp_path: Path) -> None:
    """A pickle of an archive may name any function, and ``code/`` holds programs."""
    saved(tmp_path / "net.pt", "script")
    target = tmp_path / "ran"
    call = f"cos\nsystem\n(X{len(str(target)) + 6:c}\0\0\0touch {target}tR0".encode()
    with zipfile.ZipFile(tmp_path / "net.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        for name, data in members.items():
            is_pickle = name.endswith("/data.pkl")
            archive.writestr(name, data[:2] + call + data[2:] if is_pickle else data)
            if name.startswith("net/code/") and name.endswith(".py"):
                archive.writestr(f"{name}c", b"import os; os._exit(1)")
    assert os.system(f"touch {target}.here") == 0  # such a command works
    with refused("VGG552"):
        read_checkpoint(tmp_path / "bad.pt")
    assert not target.exists()
    assert (tmp_path / "ran.here").exists()
