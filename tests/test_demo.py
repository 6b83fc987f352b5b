"""The demo: pages and windows, the reading of a score map, and the whole of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from vggspec.cli import run
from vggspec.compiler.lower import load_network
from vggspec.data.decode import decode
from vggspec.runtime.protocol import PosteriorMap
from vggspec.training.dataset import open_data

pytest.importorskip("sklearn")

from tests.refusals import refused
from vggspec.studies import demo

FEW = {name: digits[:80] for name, digits in demo.load_digits(0).items()}


def test_the_digits_are_split_evenly() -> None:
    digits = demo.load_digits(0)
    assert {name: len(some) for name, some in digits.items()} == {"train": 1347, "val": 450}
    for some in digits.values():
        kinds = [sum(digit.label == str(k) for digit in some) for k in range(10)]
        assert max(kinds) - min(kinds) < 0.1 * max(kinds)
    inks = {digit.ink.tobytes() for digit in digits["train"]}
    assert not any(digit.ink.tobytes() in inks for digit in digits["val"])
    again = demo.load_digits(0)["val"]
    assert [digit.label for digit in again] == [digit.label for digit in digits["val"]]
    assert [digit.label for digit in demo.load_digits(1)["val"]] != [d.label for d in again]


def test_a_page_holds_its_digits_where_it_says() -> None:
    page = demo.write_page(FEW["val"][:20], 10, np.random.default_rng(0), (44, 47))
    half = demo.GLYPH_PX // 2
    for digit, place in zip(FEW["val"], page.digits, strict=False):
        part = page.pixels[place.y - half : place.y + half, place.x - half : place.x + half]
        assert digit.label == place.label
        assert (part <= np.ceil(255 - 255 * digit.ink)).all()  # neighbours only add ink
    assert [len(row) for row in page.rows] == [10, 10]
    for y, x in ((place.y, place.x) for place in page.digits):
        assert min(y, x, page.pixels.shape[0] - y, page.pixels.shape[1] - x) >= 16


def test_the_image_folder_fits_the_net(tmp_path: Path) -> None:
    root = tmp_path / "images"
    number = demo.write_folder(root, FEW, 0)
    network = load_network(str(ROOT / "specs" / "digits.vgg")).network
    folder = open_data(root, network)
    assert folder.classes == demo.LABELS
    assert len(folder.train) + len(folder.val) == number == 160 + 800
    sizes = {decode(folder.train.read(i), "gray").shape for i in range(len(folder.train))}
    assert sizes == {(demo.WINDOW_PX, demo.WINDOW_PX, 1)}
    before = folder.fingerprint
    demo.write_folder(root, FEW, 0)
    assert open_data(root, network).fingerprint == before


def test_a_folder_of_the_users_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with refused("VGG512"):
        demo.write_folder(tmp_path, FEW, 0)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def score_map(digits: dict[tuple[int, int], int]) -> PosteriorMap:
    """A map of 20 × 30 positions that sees digits at some of them, and around."""
    posteriors = np.zeros((11, 20, 30))
    for (i, j), digit in digits.items():
        posteriors[digit, i - 1 : i + 2, j - 1 : j + 2] = 0.6
        posteriors[digit, i, j] = 1.0
        posteriors[(digit + 1) % 10, i + 2, j] = 0.9  # below, something else
    posteriors[10] = 1 - posteriors[:10].sum(axis=0)
    return PosteriorMap(
        posteriors=posteriors,
        scale=108,
        size=(108, 148),
        window=(32, 32),
        stride=(4, 4),
        origin=(0.0, 0.0),
    )


def test_a_map_is_read_row_by_row() -> None:
    seen = score_map({(3, 12): 2, (4, 3): 1, (15, 20): 0, (14, 4): 7, (16, 12): 7})
    read = demo.read_page(seen, demo.LABELS)
    assert "".join(place.label for place in read) == "12770"
    assert (read[0].y, read[0].x) == (16 + 4 * 4, 16 + 4 * 3)
    assert demo.read_page(score_map({}), demo.LABELS) == []


def test_agreement_wants_the_digit_and_its_place() -> None:
    written = [
        demo.PlacedDigit("3", 40, 40),
        demo.PlacedDigit("5", 40, 70),
        demo.PlacedDigit("8", 40, 100),
    ]
    read = [
        demo.PlacedDigit("3", 42, 38),
        demo.PlacedDigit("6", 40, 70),
        demo.PlacedDigit("8", 40, 130),
    ]
    assert demo.num_agreeing(written, read) == 1
    assert demo.num_agreeing(written, written) == 3


def test_the_figure_shows_what_was_read() -> None:
    page = demo.write_page(FEW["val"][:6], 6, np.random.default_rng(0))
    size = page.pixels.shape
    seen = score_map({(4, 5): 2})
    with_tag, without = (
        np.asarray(demo.draw(page.pixels, seen, demo.LABELS, read))
        for read in ([demo.PlacedDigit("2", 36, 40)], [])
    )
    assert with_tag.shape == without.shape
    assert with_tag.shape[1] > 2 * size[1]
    red = (with_tag == demo.COLOURS[2]).all(axis=-1) & ~(without == demo.COLOURS[2]).all(axis=-1)
    assert red.sum() > 200


@pytest.mark.slow
def test_the_demo_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "-o", str(tmp_path / "demo"), "--seed", "0"]) == 0
    out = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"([\d.]+)%", out)]
    assert len(shares) == 2
    assert min(shares) >= 98  # of all validation windows, and of the digits alone
    agreeing = re.search(r"(\d+) of 20 digits agree", out)
    assert agreeing is not None
    assert int(agreeing[1]) >= 17
    with Image.open(tmp_path / "demo" / "digits-heatmap.png") as figure:
        assert figure.width > 600
    commands = re.findall(r"\$ vggspec (\w+)", out)
    assert commands == ["train", "compile", "predict"]


def test_the_demo_reads_a_little_after_four_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its steps, with a quarter of the training."""
    text = demo.spec_path().read_text("utf-8")
    assert "stop after 16 epochs" in text
    short = tmp_path / "digits.vgg"
    short.write_text(text.replace("stop after 16 epochs", "stop after 4 epochs"))
    monkeypatch.setattr(demo, "spec_path", lambda: short)
    assert run(["demo", "-o", str(tmp_path / "demo"), "--seed", "0"]) == 0
    out = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"([\d.]+)%", out)]
    assert len(shares) == 2
    assert min(shares) >= 80
    agreeing = re.search(r"(\d+) of 20 digits agree", out)
    assert agreeing is not None
    assert int(agreeing[1]) >= 10
    with Image.open(tmp_path / "demo" / "digits-heatmap.png") as figure:
        assert figure.width > 600
    assert re.findall(r"\$ vggspec (\w+)", out) == ["train", "compile", "predict"]
