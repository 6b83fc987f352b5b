"""Texts of specs: shipped ones damaged, pieces of lines put together, patterns repeated."""

import time
from pathlib import Path
from random import Random

from tests.conftest import ROOT
from tests.fuzz.harness import answer
from vggspec.base.diagnostic import VggspecError
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source
from vggspec.compiler.lower import lower
from vggspec.compiler.ops import spell
from vggspec.lang.formatter import format_document
from vggspec.lang.loading import MAX_BYTES, read
from vggspec.lang.parser import parse

SECONDS = 4.0
"""What a spec may take of the processor, other processes beside it."""

SHIPPED = tuple(path.read_text("utf-8") for path in sorted((ROOT / "specs").glob("*.vgg")))

#: Pieces of lines, right and wrong. `$N` is a number and `$W` a word.
PIECES = (
    "net $W", "net n$N", "input $Nx$N RGB", "input 8x8 gray(mean $N, std 2)", "conv3-$N",
    "conv$Nx3-8/$N(pad $N, linear)", "conv1-1 x$N", "maxpool", "maxpool$N/$N(ceil)", "LRN", "BN",
    "dropout(0.$N)", "FC-$N", "gap", "soft-max", "boxes(shared)", "conv3-8 as $W", "**conv3-8**",
    "$N weight layers", "$NK parameters", 'like "x.vgg:n$N"', 'like "x.vgg" up to fc$N',
    'like "y.vgg"', 'like "."', "train:", "test:", "  batch $N", "  rate 1e-$N", "  scale $N..$N",
    "  scale $N, $N", "  crops $Nx$N", "  $W $N", '  start from "x.vgg": first $N conv',
    "| n$N | $W |", "| conv3-8 |", "| conv3-$N | $W |", "|---|---|", "| $N weight layers | |",
    "# $W", "$W", "$W $N", "conv3–8", "conv3-8, relu", "$W($W $N, $N)", "(", ")", '"', "|", "**",
    "x$N", "\t", "é", "\u200b", "٣", "conv٣-٨", "²", "\u0301", "x" * 250,
    "9" * 4400, "x" + "9" * 190,
)  # fmt: skip
WORDS = ("a", "conv", "concat", "rate", "lr", "up", "to", "as", "image", "relu", "CONV3-8", "Ω")
NUMBERS = ("0", "1", "2", "3", "8", "64", "999", "4096", "65537", "9" * 20, "1.5", "1e9", "٣")


def one(random: Random, folder: Path) -> str:
    """A text to `check` and, where it is right, to `fmt`, whose text means the same."""
    text = _text(random).replace("\0", " ").encode("utf-8", "replace")[:MAX_BYTES]
    path = folder / "x.vgg"
    path.write_bytes(text)
    if random.randrange(2):
        (folder / "y.vgg").write_bytes(_text(random).encode("utf-8", "replace")[:MAX_BYTES])
    start = time.process_time()
    kind = answer(lambda: _check(read(path)))
    taken = time.process_time() - start
    assert taken < SECONDS, f"{taken:.1f} s for {len(text)} bytes: {text[:200]!r}"
    return kind


def _check(source: Source) -> None:
    found = check_source(source).reports
    if found:
        raise VggspecError(*found)
    document = parse(source)
    again = format_document(document, spell)
    formatted = parse(Source(source.name, again))
    assert format_document(formatted, spell) == again, "formatting twice is formatting once"
    for before, after in zip(document.specs[:2], formatted.specs[:2], strict=True):
        one, other = lower(before), lower(after)
        assert one.experiment == other.experiment
        assert one.network.input == other.network.input
        ops = [[(layer.name, layer.op) for layer in each.network.layers] for each in (one, other)]
        assert ops[0] == ops[1]


def _text(random: Random) -> str:
    kind = random.randrange(10)
    if kind < 4:
        return _damaged(random, random.choice(SHIPPED))
    if kind < 9:
        lines = (_line(random) for _ in range(random.choice((1, 3, 8, 20, 60))))
        return "".join(f"{line}\n" for line in lines)
    # One or two lines many times over, seldom a whole file of them.
    lines = [_line(random) for _ in range(random.choice((1, 1, 2, 3)))]
    piece = random.choice(("\n", " ", "\n  ")).join(lines) + random.choice(("\n", " ", ""))
    size = random.choice((50, 500, 3000)) if random.randrange(20) else MAX_BYTES
    head = "".join(f"{_line(random)}\n" for _ in range(random.randrange(4)))
    return head + piece * (size // max(1, len(piece)))


def _line(random: Random) -> str:
    pieces = [random.choice(PIECES) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    text = " ".join(pieces)
    while "$N" in text:
        text = text.replace("$N", random.choice(NUMBERS), 1)
    while "$W" in text:
        text = text.replace("$W", random.choice(WORDS), 1)
    return text


def _damaged(random: Random, text: str) -> str:
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        at = random.randrange(len(text) + 1)
        end = min(len(text), at + random.choice((0, 1, 1, 5, 40)))
        new = random.choice(("", _line(random), random.choice(PIECES), text[at : at + 60] * 2))
        text = text[:at] + new + text[end:]
    return random.choice((text, text, text, text.upper(), text.lower()))
