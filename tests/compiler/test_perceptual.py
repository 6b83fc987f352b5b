"""The perceptual distance, against the package ``lpips`` and against its formula written out."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import vggspec
from tests.nets import net, random_weights, spec_of_ours
from tests.peers import torchvision_models
from tests.refusals import refused
from vggspec.base.diagnostic import ArgumentError
from vggspec.bundle.opening import open_bundle
from vggspec.compiler.weights import WeightsFile
from vggspec.runtime.open_session import open_session

TEXT = "input 32x32 BGR(mean 104 117 123)\nconv3-4\nmaxpool\nconv3-6 BN\nmaxpool\nFC-5\nsoft-max\n"


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, WeightsFile]:
    (tmp_path / "small.vgg").write_text(TEXT)
    return tmp_path / "small.vgg", random_weights(
        net(TEXT, "small.vgg"), tmp_path / "w.safetensors"
    )


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=1)


def test_the_formula(small: tuple[Path, WeightsFile], tmp_path: Path) -> None:
    spec, weights = small
    w = {name: torch.from_numpy(weights.read(name).copy()) for name in weights.tensors}
    rng = np.random.default_rng(0)
    lins = [torch.from_numpy(rng.random(n, np.float32)) for n in (4, 6)]
    state = {f"lin{i}.model.1.weight": lin.reshape(1, -1, 1, 1) for i, lin in enumerate(lins)}
    torch.save(state, tmp_path / "factors.pth")
    distance = vggspec.perceptual(
        spec,
        weights.path,
        taps=("conv1_1", "conv2_1"),
        factors=tmp_path / "factors.pth",
        pixels=(-1, 1),
    )

    def taps(x: Tensor) -> list[Tensor]:
        x = ((x + 1) * 127.5).flip(1) - torch.tensor([104.0, 117, 123]).reshape(1, 3, 1, 1)
        y = functional.conv2d(x, w["conv1_1.weight"], w["conv1_1.bias"], padding=1).relu()
        z = functional.max_pool2d(y, 2)
        z = functional.conv2d(z, w["conv2_1.weight"], w["conv2_1.bias"], padding=1)
        norm = (w[f"bn2_1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return [y, functional.batch_norm(z, *norm).relu()]

    a, b = (torch.rand(2, 3, 21, 34) * 2 - 1 for _ in range(2))
    a.requires_grad_()
    pairs = zip(taps(a), taps(b), lins, strict=True)
    expected = sum(
        ((_unit(x) - _unit(y)).square() * lin.reshape(1, -1, 1, 1)).sum(1).mean((1, 2))
        for x, y, lin in pairs
    )
    assert isinstance(expected, Tensor)
    found = distance(a, b)
    assert found.shape == (2,)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), a)
    (wanted,) = torch.autograd.grad(expected.sum(), a)
    torch.testing.assert_close(gradient, wanted)


def test_it_is_a_loss(small: tuple[Path, WeightsFile]) -> None:
    """Its weights are frozen, it stays in eval mode, and images that are alike have no NaN."""
    spec, weights = small
    distance = vggspec.perceptual(spec, weights.path, taps=("conv1_1",))
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert not distance.train().training
    assert distance.weights_sha256 == weights.data_sha256()
    black = torch.zeros(1, 3, 16, 16, requires_grad=True)
    found = distance(black, torch.zeros(1, 3, 16, 16))
    assert found.item() == 0
    found.backward()
    assert black.grad is not None
    assert torch.isfinite(black.grad).all()


def test_what_is_refused(small: tuple[Path, WeightsFile], tmp_path: Path) -> None:
    spec, weights = small
    with refused("VGG667.*no feature map"):
        vggspec.perceptual(spec, weights.path)
    with refused("(?s)VGG663.*conv9_9"):
        vggspec.perceptual(spec, weights.path, taps=("conv9_9",))
    torch.save({"lin0.model.1.weight": torch.ones(1, 5, 1, 1)}, tmp_path / "f.pth")
    with refused("VGG668.*taps of 5 channels"):
        vggspec.perceptual(spec, weights.path, taps=("conv1_1",), factors=tmp_path / "f.pth")
    with pytest.raises(ArgumentError, match="black and of white"):
        vggspec.perceptual(spec, weights.path, taps=("conv1_1",), pixels=(1, 0))
    distance = vggspec.perceptual(spec, weights.path, taps=("conv1_1",))
    with pytest.raises(ValueError, match="same shape"):
        distance(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 17))


@pytest.mark.parametrize("is_learned", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning")
@pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning")
def test_it_is_the_distance_of_the_package(is_learned: bool, tmp_path: Path) -> None:
    """VGG-16 with random weights, and the factors that the package brings along."""
    if importlib.util.find_spec("lpips") is None:
        pytest.skip("needs the package lpips")
    torchvision_models()
    import lpips

    torch.manual_seed(0)
    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, lpips=is_learned, verbose=False).eval()
    state = {}
    for part in (theirs.net.slice1, theirs.net.slice2, theirs.net.slice3, theirs.net.slice4):
        state |= {f"features.{name}": tensor for name, tensor in part.state_dict().items()}
    last = theirs.net.slice5.state_dict()
    state |= {f"features.{name}": tensor for name, tensor in last.items()}
    torch.save(state, tmp_path / "vgg.pth")
    out = tmp_path / "lpips.safetensors"
    spec = spec_of_ours("lpips").spec.source.name
    vggspec.import_weights(spec, tmp_path / "vgg.pth", out=out)
    factors = Path(lpips.__file__).parent / "weights/v0.1/vgg.pth" if is_learned else None
    ours = vggspec.perceptual(spec, out, factors=factors, pixels=(-1, 1))
    made = vggspec.compile(
        spec, weights=out, out=tmp_path / "b", distance=True, factors=factors, contract="raw"
    )
    with open_session(open_bundle(made), "cpu") as graph:
        for size in ((64, 64), (75, 50)):
            pixels = torch.randint(0, 256, (2, 2, *size, 3), dtype=torch.uint8)
            a, b = pixels.permute(0, 1, 4, 2, 3) / 127.5 - 1
            with torch.inference_mode():
                expected = theirs(a, b).flatten()
                torch.testing.assert_close(ours(a, b), expected, rtol=1e-4, atol=1e-6)
            first, second = pixels.numpy()
            found = torch.from_numpy(graph.run({"first": first, "second": second})["distance"])
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
