"""Case does not matter: shipped specs and the examples of the reference, in capitals."""

import re
from dataclasses import replace
from pathlib import Path

import click
import pytest

from tests.conftest import ROOT
from vggspec.base.render import as_text
from vggspec.base.source import Source
from vggspec.cli.evaluating import grid_side
from vggspec.compiler.checking import check_source
from vggspec.compiler.lower import lower
from vggspec.compiler.ops import spell
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.resize import Resize
from vggspec.lang.formatter import format_document
from vggspec.lang.parser import parse

SPECS = ROOT / "specs"
EXAMPLES = re.findall(
    r"^```vgg\n(.*?)^```",
    (ROOT / "docs" / "language.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)
#: Every setting and option, and the forms of numbers, in the case in which `fmt` writes them.
EVERYTHING = """\
net everything
input 40x48 RGB(mean 1 2 3, scale 1/255)
conv3-8(pad 1x1, groups 1, dilation 1, linear, no-bias) x2
BN(eps 1e-5, momentum 0.1)
LRN(n 3, k 2, alpha 1e-4, beta 0.75)
maxpool3/2(pad 1, ceil)
conv1x7-8/2(pad 0) as strip
avgpool
gap
FC-8
dropout(0.5)
FC-8
soft-max
train:
  scale 64..512
  flip off
  colour-shift 0.1
  batch 1K
  decay 10 on plateau of 5 epochs, 3 times
  stop after 370K iterations
  start he
  start from "A.vgg": first 4 conv, last 3 FC
  start from "B.vgg": all but last FC
test:
  scale 64, 128
  crops 5x5
  average posteriors
"""
TEXTS = {
    **{path.stem: path.read_text("utf-8") for path in sorted(SPECS.glob("*.vgg"))},
    **{f"example {i}": text for i, text in enumerate(EXAMPLES)},
    "everything": EVERYTHING,
}


def _in(case: str, text: str) -> str:
    """The text in another case, file names in quotation marks as they are."""
    parts = text.split('"')
    return '"'.join(getattr(part, case)() if i % 2 == 0 else part for i, part in enumerate(parts))


def _in_one_case(op: Op) -> Op:
    """The op; a name in it is in lower case, as those of layers keep theirs."""
    return replace(op, of=op.of.casefold()) if isinstance(op, Crop | Resize) else op


def _meaning(text: str) -> list[tuple[object, ...]]:
    source = Source(str(SPECS / "any.vgg"), text)
    reports = check_source(source).reports
    assert not reports, as_text(reports)
    found: list[tuple[object, ...]] = []
    for spec in parse(source).specs:
        lowered = lower(spec)
        layers = tuple(
            (one.name.casefold(), _in_one_case(one.op), one.type) for one in lowered.network.layers
        )
        found.append((lowered.network.input, layers, lowered.experiment))
    return found


@pytest.mark.parametrize("case", ["upper", "lower"])
@pytest.mark.parametrize("name", TEXTS)
def test_case_does_not_matter(name: str, case: str) -> None:
    # Of a comment only the quotation marks would matter here.
    text = re.sub(r"#.*", "", TEXTS[name])
    assert _meaning(_in(case, text)) == _meaning(text)


@pytest.mark.parametrize("case", ["upper", "lower"])
def test_fmt_writes_the_usual_case(case: str) -> None:
    """Names stay as they are; all else is written as in the reference."""
    document = parse(Source("x.vgg", _in(case, EVERYTHING).replace("x", "X")))
    formatted = format_document(document, spell)
    names = {"EVERYTHING": "everything", "STRIP": "strip"}
    for name, usual in names.items():
        formatted = formatted.replace(name, usual)
    assert formatted == EVERYTHING


@pytest.mark.parametrize("text", ["crops 5X5", "CROPS 5 X 5", "Crops 5×5", "crops 05x5"])
def test_a_grid_of_crops(text: str) -> None:
    (spec,) = parse(Source("x.vgg", f"FC-10\ntest:\n  {text}\n")).specs
    assert lower(spec).experiment.test.crops == 5


@pytest.mark.parametrize("grid", ["5x5", "5X5", "5×5"])
def test_a_grid_on_the_command_line(grid: str) -> None:
    context = click.Context(click.Command("eval"))
    assert grid_side(context, click.Option(["--crops"]), grid) == 5


def test_the_folder_of_the_specs(tmp_path: Path) -> None:
    """A path keeps its case, since on most systems it matters."""
    (tmp_path / "Base.vgg").write_text("FC-10\n")
    assert not check_source(Source(str(tmp_path / "x.vgg"), 'LIKE "Base.vgg" UP TO FC1\n')).reports
    assert check_source(Source(str(tmp_path / "x.vgg"), 'LIKE "base.vgg"\n')).reports
