"""torchvision's nets, imported: the same class scores from our modules and our ONNX graphs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional

import vggspec
from tests.conftest import ROOT
from tests.nets import disagreement, images, run_onnx
from tests.peers import made, set_statistics, torchvision_models
from tests.refusals import refused
from vggspec.compiler.backends.onnx.model import emit
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.lower import load_network
from vggspec.compiler.passes import DropSoftmax, inference, run
from vggspec.compiler.weights import open_weights

SIZES = [(224, 224), (193, 225), (97, 131)]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

#: torchvision's GoogLeNet is that of TensorFlow: BN, and 3 × 3 where the paper has 5 × 5.
GOOGLENET = """\
net googlenet
input 224x224 RGB
conv is conv(no-bias) BN(eps 0.001) ReLU
block inception(c1, r3, c3, r5, c5, pp):
  conv1-{c1}
  & conv1-{r3} conv3-{c3}
  & conv1-{r5} conv3-{c5}
  & maxpool3/1(pad 1, ceil) conv1-{pp}

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


#: Specs and nets of theirs, and what else `import` or they are told.
RESNET18, RESNET50 = "specs/resnet.vgg:ResNet-18", "specs/resnet.vgg:ResNet-50"


#: torchvision's Inception v3: padding counts in its averages.
INCEPTION_A = """\
block a(c):
  conv1-64
  & conv1-48 conv5-64
  & conv1-64 conv3-96 x2
  & avgpool3/1(pad 1, count-pad) conv1-{c}

conv is conv(no-bias) BN(eps 0.001) ReLU
"""
INCEPTION = f"""\
net inception-v3
input 299x299 RGB
conv3-32/2(pad 0) conv3-32(pad 0) conv3-64 maxpool3/2
conv1-80 conv3-192(pad 0) maxpool3/2
a(32) a(64) a(64)
b
c(128) c(160) c(160) c(192)
d
e e
gap dropout FC-1000
23834568 parameters

{INCEPTION_A}
block b:
  conv3-384/2(pad 0)
  & conv1-64 conv3-96 conv3-96/2(pad 0)
  & maxpool3/2

block c(c):
  conv1-192
  & conv1-{{c}} conv1x7-{{c}} conv7x1-192
  & conv1-{{c}} conv7x1-{{c}} conv1x7-{{c}} conv7x1-{{c}} conv1x7-192
  & avgpool3/1(pad 1, count-pad) conv1-192

block d:
  conv1-192 conv3-320/2(pad 0)
  & conv1-192 conv1x7-192 conv7x1-192 conv3-192/2(pad 0)
  & maxpool3/2

block e:
  conv1-320
  & conv1-384 [conv1x3-384 & conv3x1-384]
  & conv1-448 conv3-384 [conv1x3-384 & conv3x1-384]
  & avgpool3/1(pad 1, count-pad) conv1-192
"""
SMALL_INCEPTION = f"""\
net two-modules
input 32x32 RGB
a(32) a(64)
gap FC-5

{INCEPTION_A}"""


def imported(
    spec: str, state: dict[str, torch.Tensor], folder: Path, **options: Any
) -> tuple[nn.Module, ort.InferenceSession]:
    """Our module and our ONNX graph of a spec, with the weights of a state dict."""
    path, out = folder / "net.pth", folder / "net.safetensors"
    torch.save(state, path)
    written = ROOT / spec
    if "\n" in spec:
        written = folder / "net.vgg"
        written.write_text(spec)
    given = vggspec.ImportOptions(source="torchvision", **options)
    vggspec.import_weights(written, path, out=out, options=given)
    weights = open_weights(out)
    network = run((DropSoftmax(), *inference("dense")), load_network(written).network)
    module = torch_module.loaded(network, weights).eval()
    model = emit(network, weights, mean=(0, 0, 0), is_dynamic=True, weights_as="embedded")
    of = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return module, of


def compare(
    theirs: nn.Module,
    module: nn.Module,
    of: ort.InferenceSession,
    normalise: Callable[[torch.Tensor], torch.Tensor] = torch.clone,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> None:
    """Equal class scores of noise, at several sizes; ``normalise`` gives ours what theirs takes."""
    for size in sizes:
        image = torch.from_numpy(images(1, 3, *size))
        with torch.inference_mode():
            expected = theirs(image).numpy()
            x = normalise(image)
            found = module(x.clone()).numpy()
        assert disagreement(found, expected) < 1e-5
        (found,) = run_onnx(of, x.numpy()).values()
        assert disagreement(found, expected) < 1e-5


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        ("resnet18", RESNET18),
        ("squeezenet1_0", "specs/squeezenet.vgg"),
        ("mobilenet_v2", "specs/mobilenetv2.vgg"),
        pytest.param("resnet50", RESNET50, marks=SLOW),
        pytest.param("resnext50_32x4d", "specs/resnext50.vgg", marks=SLOW),
        pytest.param("densenet121", "specs/densenet.vgg:DenseNet-121", marks=SLOW),
    ],
)
def test_class_scores_are_torchvisions(model: str, spec: str, tmp_path: Path) -> None:
    theirs = made(model)
    compare(theirs, *imported(spec, theirs.state_dict(), tmp_path))


@SLOW
def test_googlenet_without_its_auxiliary_classifiers(tmp_path: Path) -> None:
    """Which its state dict contains, and its scores in evaluation do not need. Its weights are for
    images from -1 to 1, which the net makes of what it is given, as it is with published weights.
    """
    theirs = made("googlenet", init_weights=False, transform_input=True)
    state = theirs.state_dict()
    with refused("VGG505"):
        imported(GOOGLENET, state, tmp_path)
    ours = imported(GOOGLENET, state, tmp_path, ignored=("aux1", "aux2"))
    metadata = open_weights(tmp_path / "net.safetensors").metadata
    assert metadata.mean == metadata.std == (127.5, 127.5, 127.5)
    mean, std = (torch.tensor(of)[:, None, None] / 255 for of in (MEAN, STD))
    compare(theirs, *ours, lambda x: (x * std + mean - 0.5) / 0.5)


class TwoModules(nn.Module):
    """Two modules of Inception v3, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        inception = torchvision_models().inception
        self.modules_ = nn.Sequential(inception.InceptionA(3, 32), inception.InceptionA(256, 64))
        self.fc = nn.Linear(288, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.modules_(x)
        scores: torch.Tensor = self.fc(functional.adaptive_avg_pool2d(found, 1).flatten(1))
        return scores


def test_padding_counts_in_inception(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = TwoModules()
    set_statistics(theirs)
    state = theirs.eval().state_dict()
    sizes = [(17, 14), (9, 31)]
    compare(theirs, *imported(SMALL_INCEPTION, state, tmp_path), sizes=sizes)
    other = SMALL_INCEPTION.replace(", count-pad", "")
    with pytest.raises(AssertionError):
        compare(theirs, *imported(other, state, tmp_path), sizes=sizes)


@SLOW
def test_inception_without_its_auxiliary_classifier(tmp_path: Path) -> None:
    theirs = made("inception_v3", init_weights=False, transform_input=False)
    ours = imported(INCEPTION, theirs.state_dict(), tmp_path, ignored=("AuxLogits",))
    compare(theirs, *ours)


@SLOW
def test_a_shortcut_that_is_defined_first(tmp_path: Path) -> None:
    """ResNet-50 as detectron2 and Caffe list it: of torchvision's names no order counts, of others
    it does.
    """
    theirs = made("resnet50")
    state = theirs.state_dict()

    def place(name: str) -> tuple[str, ...]:
        stage, block, *_ = (*name.split("."), "")
        return (stage, block, "") if "downsample" in name else (stage, block, "then")

    blocks = {name: place(name) for name in state if name.startswith("layer")}
    first = [name for name in state if name not in blocks and not name.startswith("fc")]
    listed = [*first, *sorted(blocks, key=blocks.__getitem__), "fc.weight", "fc.bias"]
    turned = {name: state[name] for name in listed}
    compare(theirs, *imported(RESNET50, turned, tmp_path))
    turned = {name.replace("layer", "res"): tensor for name, tensor in turned.items()}
    with refused("VGG548"):
        imported(RESNET50, turned, tmp_path)
    pairs = {
        "conv2_1_conv3": "res1.0.conv3",
        "conv2_1_shortcut": "res1.0.downsample.0",
    }
    compare(theirs, *imported(RESNET50, turned, tmp_path, pairs=pairs))
