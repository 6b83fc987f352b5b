"""Cells of pasted tables: every way to write a layer, and what is no layer."""

import pytest

from vggspec.lang.pasted.cells import read_cell
from vggspec.lang.pasted.text import inline

READ = {
    "conv3-64": "conv3-64",
    "conv1x7-64": "conv1x7-64",
    "conv3-64(pad 1, linear) x2": "conv3-64(pad 1, linear) x2",
    "3×3, 64": "conv3-64",
    "3x3, 64": "conv3-64",
    "3 × 3 , 64": "conv3-64",
    "3×3, 64, stride 2": "conv3-64/2",
    "3×3, 64, stride of 2": "conv3-64/2",
    "7 × 7, 64, /2": "conv7-64/2",
    "3x3 conv, 64": "conv3-64",
    "3x3 conv, 64, /2": "conv3-64/2",
    "3×3 conv-64": "conv3-64",
    "conv 3×3 (64)": "conv3-64",
    "conv(3×3, 64)": "conv3-64",
    "Convolution 3×3, 64 filters": "conv3-64",
    "conv 11×11, 96 (stride 4, pad 0)": "conv11-96/4(pad 0)",
    "conv 11×11, 96, s=4, p=0": "conv11-96/4(pad 0)",
    "conv 3×3, 64, valid": "conv3-64(pad 0)",
    "conv 3×3, 64, same": "conv3-64",
    "3×3, 64, dilation 2": "conv3-64(dilation 2)",
    "3×3, 128, C=32": "conv3-128(groups 32)",
    "1×1, 64, 3×3, 64": "conv1-64 conv3-64",
    "3×3, 64; 3×3, 64": "conv3-64 conv3-64",
    "conv3-64<br>conv3-64": "conv3-64 conv3-64",
    "conv3-64 → maxpool": "conv3-64 maxpool",
    "3×3, 64 ×2": "conv3-64 x2",
    "(3×3, 64) × 2": "conv3-64 x2",
    "[3×3, 64; 3×3, 64] ×2": "[conv3-64 conv3-64] x2",
    "[3×3, 64<br>3×3, 64]×2": "[conv3-64 conv3-64] x2",
    "[1×1, 64; 3×3, 64; 1×1, 256] × 3": "[conv1-64 conv3-64 conv1-256] x3",
    "maxpool": "maxpool",
    "maxpool3/2": "maxpool3/2",
    "max pool, 2×2": "maxpool",
    "max-pooling": "maxpool",
    "2×2 max pool, stride 2": "maxpool",
    "3×3 max pool, stride 2": "maxpool3/2",
    "max pool 3×3/2": "maxpool3/2",
    "max pool, 3×3, stride 2, pad 1": "maxpool3/2(pad 1)",
    "2×2 average pool, stride 2": "avgpool",
    "7×7 global average pool": "gap",
    "average pool, 1000-d fc, softmax": "avgpool FC-1000 soft-max",
    "1000D fully-connected, softmax": "FC-1000 soft-max",
    "FC-4096": "FC-4096",
    "fc, 4096": "FC-4096",
    "Fully connected 4096": "FC-4096",
    "fc6 (4096)": "FC-4096",
    "soft-max": "soft-max",
    "Local Response Normalization": "LRN",
    "LRN(n 5, k 2)": "LRN(n 5, k 2)",
    "batch norm": "BN",
    "dropout (0.5)": "dropout(0.5)",
    "input (224 × 224 RGB image)": "input 224x224 RGB",
    "224×224×3 image": "input 224x224 RGB",
    "input 28×28 gray": "input 28x28 gray",
    "11 weight layers": "11 weight layers",
    "133 million parameters": "133M parameters",
    "138M params": "138M parameters",
    "conv3&#45;64 &amp;": None,
    "$3\\times3$, 64": "conv3-64",
    "**conv3-64**": "conv3-64",
    "conv3-64<sup>†</sup>": "conv3-64",
}

NOT_READ = (
    "conv3-5l2",
    "conv3-64<sup>1</sup>",  # no conv of 641 channels
    "conv3-64 4",
    "3×3, 64×64",
    "3×3, 64 × 2",  # twice, or 64 channels to 2?
    "64",
    "4096",
    "fc6",
    "conv",
    "conv 3×3",
    "1×1 conv × 6",
    "pool",
    "pool, /2",
    "max",
    "max pool 3×3, 64",  # its window, or the next conv?
    "3×3 max pool, 64",
    "32×32",
    "[3×3, 64; 3×3",
    "[[3×3, 64] ×2, 1×1, 8] ×3",
    "[maxpool; 7] ×2",
    "3×3, 64, stride 2, stride 3",
    "3×3, 64, stride 2×3",
    "1000-way softmax",
    "inception (3a)",
    "3×3, 64, stride",
    "conv3-64.5",
    "٣×٣, ٦٤",
    ",",
)


@pytest.mark.parametrize(("text", "expected"), READ.items())
def test_read(text: str, expected: str | None) -> None:
    read = read_cell(inline(text, 0))
    if expected is None:
        assert read.troubles
        return
    assert read.troubles == ()
    assert " ".join(item.written() for item in read.items) == expected


@pytest.mark.parametrize("text", NOT_READ)
def test_not_read(text: str) -> None:
    read = read_cell(inline(text, 0))
    assert read.troubles


@pytest.mark.parametrize("text", [*READ, *NOT_READ])
def test_places_are_in_the_text(text: str) -> None:
    cell = inline(text, 100)
    read = read_cell(cell)
    for trouble in read.troubles:
        span = cell.span(trouble.start, trouble.end)
        assert 100 <= span.start <= span.end <= 100 + len(text)
    for item in read.items:
        assert 100 <= item.span.start < item.span.end <= 100 + len(text)


def test_bold_is_kept() -> None:
    read = read_cell(inline("conv3-64 <b>conv3-64</b> **LRN**", 0))
    assert [getattr(item, "bold", None) for item in read.items] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("max pool, 3×3", "a 3 × 3 pooling without a stride: 2 is taken, as in all specs"),
        ("max pool, /2", "a pooling of stride 2 without a window: 2 × 2 is taken"),
        ("input", "the size of the input is not given: 224 × 224 RGB is the default"),
        ("input 32×32", "the colours of the input are not given: RGB is taken"),
        ("conv1: 3×3, 64", "the label `conv1` is dropped"),
        ("flatten", "flattening is implied: not written"),
        ("-", "`-` is read as an empty cell"),
    ],
)
def test_guesses_are_said(text: str, note: str) -> None:
    assert read_cell(inline(text, 0)).notes == (note,)
