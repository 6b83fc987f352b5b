"""What the help says to write is no mistake itself, whatever was written before.

The lines are what users of Keras, PyTorch, Caffe, Darknet and readers of papers type.
"""

import re
from collections.abc import Iterable

import pytest

from vggspec.base.catalogue import syntax
from vggspec.base.catalogue.layers import UnknownLayer, UnknownOption
from vggspec.base.diagnostic import Diagnostic, Report
from vggspec.base.source import Source
from vggspec.base.wording import nearest
from vggspec.compiler.checking import check_source
from vggspec.compiler.ops import OPS
from vggspec.lang.mistakes import SOUND
from vggspec.lang.sections import SECTIONS

LINES = r"""
conv3-16, relu
concat
Conv2D(64, 3)
Conv2d(3, 64, 3)
Conv2d(64, 128, kernel_size=3, padding=1)
Conv2D(64, (3, 3), activation='relu')
nn.Conv2d(64, 128, 3)
layers.Conv2D(32, 3)
relu
ReLU()
conv-relu
conv3-64-relu
conv3-64 + relu
conv3-64 -> maxpool
conv3-64; maxpool
max-pool
max pool
MaxPool2d(2)
MaxPooling2D((2, 2))
maxpool 2x2
maxpool(2)
maxpool(2, 2)
maxpool2x2
pool
pool2
fc 4096
FC4096
fc4096
fc
FC(4096)
fully connected 10
fully-connected 10
dense 10
Dense(10)
Dense(10, activation=softmax)
linear 10
Linear(4096, 1000)
flatten
Flatten()
add
residual
shortcut
skip
route
upsample
deconv3-64
ConvTranspose2d(64, 3)
batchnorm
BatchNorm2d(64)
batch norm
batch-normalization
instance norm
layernorm
groupnorm
conv 3x3, 64
conv3x3-64
conv3x3, 64
3x3 conv, 64
3x3 conv 64
1x1 conv, 256
conv 64
conv64
conv 3 64
64 conv 3x3
conv3
conv3-
conv-3-64
conv_3_64
conv3_64
conv3-64 stride 2
conv3-64 s2
conv3-64/s2
conv3-64, stride 2
conv3-64 pad 1
conv3-64 padding=1
conv3-64(padding=1)
conv3-64(stride=2)
conv3-64(s2)
conv3-64 linear
conv3-64x2
conv3-64*2
conv3-64 * 2
2x conv3-64
2 conv3-64
conv3-64 conv3-64 (x2)
(conv3-64) x2
[conv3-64] x2
{conv3-64}
conv3-64 x 2 times
dropout 0.5
dropout=0.5
Dropout(0.5)
dropout 50%
drop 0.5
global average pooling
GlobalAveragePooling2D()
global avg pool
AdaptiveAvgPool2d(1)
AdaptiveAvgPool2d((7, 7))
average pool
avgpool 7x7
avg-pool
avgpool(7)
softmax
Softmax()
log_softmax
sigmoid
tanh
swish
leaky relu
prelu
lrn
LocalResponseNorm(5)
input 224
input 3x224x224
input (3, 224, 224)
input: 224x224
input 224x224x3
input shape 224x224
input 224 x 224 RGB image
input=224x224
input 224x224 RGBA
input 224x224 grayscale
input 224x224 mono
input 224x224 color
image 224x224
Input((224, 224, 3))
epochs 90
lr 0.1
learning rate 0.1
learning_rate = 0.1
optimizer adam
batch size 32
batch_size=128
momentum 0.9
weight decay 5e-4
weight_decay=5e-4
batch 256
crops 5x5
dense
average scores
flip
scale 256
augment
clip 1
gradient clipping
warmup 5
label smoothing 0.1
scheduler step
seed 1
loss cross-entropy
train
test
training:
testing:
train batch 256
train: batch 256
validation:
net
network D
model D
name: D
net: D
net "D"
net D E
class Net:
like D
like D.vgg
like "D"
like "table1.vgg" D
like: "D.vgg"
like 'D.vgg'
like "D.vgg" to fc7
like "D.vgg" upto fc7
like "D.vgg" until fc7
extends "D.vgg"
include "D.vgg"
from "D.vgg"
16 layers
16 weights layers
weight layers: 16
138 million parameters
138,357,544 parameters
params: 138M
138M params
138M
16
16-layer
// comment
-- comment
% comment
; comment
conv3-64 // comment
conv3-64 -- comment
- conv3-64
* conv3-64
1. conv3-64
conv1_1: conv3-64
conv1_1 = conv3-64
conv3-64 as conv 1
conv3-64 as "conv1"
conv3-64, conv3-64, maxpool
conv3-64 | maxpool
conv3-64 / maxpool
conv3-64 maxpool,
[net]
[convolutional]
filters=64
size=3
stride=1
pad=1
activation=leaky
layer {
type: "Convolution"
num_output: 64
kernel_size: 3
inception
bottleneck 64
block 64
separable conv3-64
depthwise 3x3
dilated conv3-64
conv3-64(dilation=2)
conv3-64(bias=False)
conv3-64(groups=2)
conv3-64(same)
conv3-64(pad same)
conv3-64(valid)
conv3-64(relu)
conv3-64(linear=True)
BN(0.9)
LRN(5)
gap(7)
soft-max(10)
boxes
boxes(4)
output 10
classes 10
10 classes
FC-10 softmax
fc-1000, soft-max
FC-4096 dropout 0.5
FC-4096 relu
FC-10 output
end
""".strip("\n").splitlines()

#: What a line alone may still lack: a net below its name, the file that it names, layers.
OF_THE_REST = {"VGG008", "VGG021", "VGG112", "VGG117", "VGG118", "VGG119", "VGG126", "VGG127"}


def _reports(text: str) -> tuple[Report, ...]:
    return check_source(Source("typed.vgg", text)).reports


def _suggestion(what: Diagnostic) -> str | None:
    match = re.fullmatch(r"(?:write|did you mean) `([^`]+)`\??", what.help() or "")
    return match[1] if match else None


def _like(found: Iterable[Report], report: Report) -> int:
    """How many reports are of the same kind as one."""
    return sum(type(one.what) is type(report.what) for one in found)


def test_there_are_many_lines() -> None:
    assert len(LINES) > 200
    suggested = [line for line in LINES if any(_suggestion(one.what) for one in _reports(line))]
    assert len(suggested) > 100


@pytest.mark.parametrize("line", LINES)
def test_following_the_help_mends_the_line(line: str) -> None:
    """Put where the mistake is, or as the whole line, the suggestion brings no other mistake."""
    for report in _reports(f"{line}\n"):
        meant = _suggestion(report.what)
        if meant is None or report.span is None:
            continue
        if isinstance(report.what, UnknownLayer | syntax.PastedDash):
            text = line[: report.span.start] + meant + line[report.span.end :]
        elif isinstance(report.what, UnknownOption) and not report.what.instead:
            text = line[: report.span.start] + meant + line[report.span.end :]
            text = text.replace(f"{meant}=", f"{meant} ")
        else:
            text = meant
        if meant == "#":
            text = f"# {line}"
        found = [one for one in _reports(f"{text}\n") if one.what.code not in OF_THE_REST]
        assert _like(found, report) < _like(_reports(f"{line}\n"), report), f"`{line}` -> `{text}`"
        if text == meant:
            assert not found, f"`{line}` -> `{text}`: {found[0].what.title()}"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("like D", 'like "typed.vgg:D"'),
        ("like E", 'like "E.vgg"'),
        ('like "table1.vgg" D', 'like "table1.vgg:D"'),
    ],
)
def test_a_net_to_be_like_is_named_with_its_file(line: str, meant: str) -> None:
    text = f"net D\ninput 8x8 RGB\nconv3-8\n\nnet new\n{line}\n"
    assert [_suggestion(one.what) for one in _reports(text)] == [meant]


@pytest.mark.parametrize("op", [op for op in OPS if op.syntax], ids=lambda op: op.keyword)
def test_every_layer_can_be_suggested(op: type) -> None:
    example = op.syntax.example  # type: ignore[attr-defined]
    assert re.fullmatch(SOUND, example), "lang/mistakes.py does not know this layer"


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("clip", ("flip", "crop"), None),
        ("concat", ("conv", "convolution"), None),
        ("ocnv", ("conv",), "conv"),
        ("onv", ("conv",), "conv"),
        ("maxpol", ("maxpool", "avgpool"), "maxpool"),
        ("MAXPOOL", ("maxpool",), "maxpool"),
        ("momentun", ("momentum",), "momentum"),
        ("sd", ("s", "std"), None),
        ("batch", ("patch",), None),
        ("dilatoin", ("dilation",), "dilation"),
        ("colour-shfit", ("crop", "colour-shift"), "colour-shift"),
    ],
)
def test_slips_of_the_keyboard(word: str, known: tuple[str, ...], meant: str | None) -> None:
    assert nearest(word, known) == meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("concat", "[conv1-64 & conv3-64]"),
        ("Add", "[conv3-64 conv3-64 + shortcut]"),
        ("residual", "[conv3-64 conv3-64 + shortcut]"),
        ("shortcut", "between `[`, `+` or `&` and `]`"),
        ("route", "from pool4"),
        ("Concatenate()", "[conv1-64 & conv3-64]"),
    ],
)
def test_branches_are_explained(word: str, meant: str) -> None:
    (found,) = _reports(f"{word}\nFC-10\n")
    assert meant in (found.what.help() or "")


def _sections_named(text: str) -> set[str]:
    (found,) = [
        one.what for one in _reports(text) if isinstance(one.what, syntax.UnindentedSetting)
    ]
    return set(re.findall(r"`(\w+):`", found.help() or ""))


@pytest.mark.parametrize("name", sorted({key for keys in SECTIONS.values() for key in keys}))
def test_a_setting_that_is_not_indented(name: str) -> None:
    """The help names the sections that have it: the one that stands above it, else all."""
    if name == "dropout":
        return  # also a layer
    line = next(keys[name].example for keys in SECTIONS.values() if name in keys)
    has = {section for section, keys in SECTIONS.items() if name in keys}
    assert _sections_named(f"FC-10\n{line}\n") == has
    for section in has:
        assert _sections_named(f"FC-10\ntrain:\ntest:\n{section}:\n{line}\n") == {section}
