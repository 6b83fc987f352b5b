"""torchvision's nets, imported: the same class scores from our modules and our ONNX graphs."""

from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from torch import nn

import vggspec
from tests.conftest import ROOT
from tests.nets import disagreement, images, run_onnx
from tests.peers import made
from vggspec.compiler.backends.onnx.model import emit
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.lower import load_network
from vggspec.compiler.passes import DropSoftmax, inference, run
from vggspec.compiler.weights import open_weights

SIZES = [(224, 224), (193, 225), (97, 131)]
INPUT = "input 224x224 RGB(mean 123.675 116.28 103.53 std 58.395 57.12 57.375)"
BN = "conv is conv(no-bias) BN ReLU"

RESNET18 = f"""\
net resnet18
{INPUT}
{BN}
conv7-64/2 as conv1
maxpool3/2(pad 1)
[conv3-64 conv3-64 + shortcut] x2 as conv2
[conv3-128/2(once) conv3-128 + shortcut] x2 as conv3
[conv3-256/2(once) conv3-256 + shortcut] x2 as conv4
[conv3-512/2(once) conv3-512 + shortcut] x2 as conv5
gap FC-1000 soft-max
"""
RESNET50 = f"""\
net resnet50
{INPUT}
{BN}
conv7-64/2 as conv1
maxpool3/2(pad 1)
[conv1-64 conv3-64 conv1-256 + shortcut] x3 as conv2
[conv1-128 conv3-128/2(once) conv1-512 + shortcut] x4 as conv3
[conv1-256 conv3-256/2(once) conv1-1024 + shortcut] x6 as conv4
[conv1-512 conv3-512/2(once) conv1-2048 + shortcut] x3 as conv5
gap FC-1000 soft-max
"""
SQUEEZENET = f"""\
net squeezenet
{INPUT}
block fire(s1, e1, e3):
  conv1-{{s1}} as squeeze
  [conv1-{{e1}} as expand1 & conv3-{{e3}} as expand3]

conv7-96/2(pad 0)  maxpool3/2(ceil)
fire(16, 64, 64) as fire2
fire(16, 64, 64) as fire3
fire(32, 128, 128) as fire4
maxpool3/2(ceil)
fire(32, 128, 128) as fire5
fire(48, 192, 192) as fire6
fire(48, 192, 192) as fire7
fire(64, 256, 256) as fire8
maxpool3/2(ceil)
fire(64, 256, 256) as fire9
dropout(0.5) conv1-1000 as conv10  ReLU  gap  soft-max
"""
MOBILENETV2 = f"""\
net mobilenetv2
{INPUT}
conv is conv(no-bias) BN ReLU6
block bottleneck(t, c, n, s):
  [conv1-{{t*in}} dwconv3/{{s}}(once) conv1-{{c}}(linear) + shortcut(drop)] x{{n}}

conv3-32/2
dwconv3 conv1-16(linear)
bottleneck(6, 24, 2, 2)
bottleneck(6, 32, 3, 2)
bottleneck(6, 64, 4, 2)
bottleneck(6, 96, 3, 1)
bottleneck(6, 160, 3, 2)
bottleneck(6, 320, 1, 1)
conv1-1280
gap dropout(0.2) FC-1000 soft-max
"""
DENSENET121 = f"""\
net densenet121
{INPUT}
conv is BN ReLU conv(no-bias)
block dense:
  identity
  & conv1-128 conv3-32
block transition:
  conv1-{{in/2}} avgpool

conv7-64/2(plain, no-bias) BN ReLU
maxpool3/2(pad 1)
dense x6   transition
dense x12  transition
dense x24  transition
dense x16
BN ReLU gap FC-1000 soft-max
"""
#: torchvision's GoogLeNet is that of TensorFlow: BN, and 3 × 3 where the paper has 5 × 5.
GOOGLENET = f"""\
net googlenet
{INPUT}
conv is conv(no-bias) BN(eps 0.001) ReLU
block inception(c1, r3, c3, r5, c5, pp):
  conv1-{{c1}}
  & conv1-{{r3}} conv3-{{c3}}
  & conv1-{{r5}} conv3-{{c5}}
  & maxpool3/1(pad 1, ceil) conv1-{{pp}}

conv7-64/2  maxpool3/2(ceil)
conv1-64 conv3-192  maxpool3/2(ceil)
inception(64, 96, 128, 16, 32, 32)
inception(128, 128, 192, 32, 96, 64)
maxpool3/2(ceil)
inception(192, 96, 208, 16, 48, 64)
inception(160, 112, 224, 24, 64, 64)
inception(128, 128, 256, 24, 64, 64)
inception(112, 144, 288, 32, 64, 64)
inception(256, 160, 320, 32, 128, 128)
maxpool2/2(ceil)
inception(256, 160, 320, 32, 128, 128)
inception(384, 192, 384, 48, 128, 128)
gap dropout(0.2) FC-1000 soft-max
"""


def imported(
    spec: str, state: dict[str, torch.Tensor], folder: Path, **options: object
) -> tuple[nn.Module, ort.InferenceSession]:
    """Our module and our ONNX graph of a spec, with the weights of a state dict."""
    path, out = folder / "net.pth", folder / "net.safetensors"
    torch.save(state, path)
    written = Path(spec)
    if "\n" in spec:
        written = folder / "net.vgg"
        written.write_text(spec)
    given = vggspec.ImportOptions(source="spec", **options)
    vggspec.import_weights(written, path, out=out, options=given)
    weights = open_weights(out)
    network = run((DropSoftmax(), *inference("dense")), load_network(written).network)
    module = torch_module.loaded(network, weights).eval()
    model = emit(network, weights, mean=(0, 0, 0), is_dynamic=True, weights_as="embedded")
    of = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return module, of


def compare(theirs: nn.Module, module: nn.Module, of: ort.InferenceSession) -> None:
    for size in SIZES:
        x = images(1, 3, *size)
        with torch.inference_mode():
            expected = theirs(torch.from_numpy(x)).numpy()
            found = module(torch.from_numpy(x)).numpy()
        assert disagreement(found, expected) < 1e-5
        (found,) = run_onnx(of, x).values()
        assert disagreement(found, expected) < 1e-5


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "spec", "options"),
    [
        ("resnet18", RESNET18, {}),
        ("squeezenet1_0", SQUEEZENET, {}),
        ("mobilenet_v2", MOBILENETV2, {}),
        pytest.param("resnet50", RESNET50, {}, marks=SLOW),
        pytest.param("resnext50_32x4d", str(ROOT / "specs/resnext50.vgg"), {}, marks=SLOW),
        pytest.param(
            "googlenet", GOOGLENET, {"aux_logits": False, "init_weights": False}, marks=SLOW
        ),
        pytest.param("densenet121", DENSENET121, {}, marks=SLOW),
    ],
)
def test_class_scores_are_torchvisions(
    model: str, spec: str, options: dict[str, object], tmp_path: Path
) -> None:
    theirs = made(model, **options)
    compare(theirs, *imported(spec, theirs.state_dict(), tmp_path))
