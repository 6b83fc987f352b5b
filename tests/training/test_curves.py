"""The picture of a run shows what its log says, however the run went."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.looks import a_step, an_epoch
from vggspec.base.catalogue.artefacts import CannotWrite
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.base.plotting import STYLE
from vggspec.training import curves
from vggspec.training.curves import draw, read_log
from vggspec.training.progress import Epoch, Step

matplotlib = pytest.importorskip("matplotlib")

RATES = [0.01, 0.01, 0.001, 0.001]
ERRORS = [0.5, 0.25, 0.125, 0.25]
EPOCHS = [
    an_epoch(n, loss=4 - n / 2, error=error, rate=rate, is_best=n < 4)
    for n, (rate, error) in enumerate(zip(RATES, ERRORS, strict=True), start=1)
]


def whole_run() -> Iterator[Step | Epoch]:
    """Four epochs of ten steps, three looks into each; the third is the best."""
    for done in EPOCHS:
        for step in (done.step - 7, done.step - 4, done.step):
            yield a_step(step, epoch=done.epoch, loss=5 - step / 10, rate=done.rate)
        yield done


def written(log: Path, seen: Sequence[Step | Epoch], end: str = "") -> Path:
    log.write_text("".join(json.dumps(asdict(now)) + "\n" for now in seen) + end)
    return log


class Drawn:
    """A picture before it is painted."""

    def __init__(self, log: Path, net: str = "tiny") -> None:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with style.context(["default", STYLE]):
            self.figure = Figure((8.5, 8), layout="constrained")
            curves._draw(self.figure, read_log(log), net)
            self.canvas = FigureCanvasAgg(self.figure)
            self.canvas.draw()
        self.loss, self.error, self.rate = self.figure.axes

    def line(self, panel: str, label: str) -> list[tuple[float, float]]:
        (line,) = (one for one in getattr(self, panel).lines if one.get_label() == label)
        return [(float(x), float(y)) for x, y in line.get_xydata()]

    def texts(self) -> list[str]:
        """All that is written, where no two cover each other and none leaves the picture."""
        from matplotlib.text import Text

        texts = [
            text
            for text in self.figure.findobj(Text)
            if text.get_visible() and text.get_text() and self._is_shown(text)
        ]
        boxes = [text.get_window_extent() for text in texts]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other), f"{one} {other}"
        for text, box in zip(texts, boxes, strict=True):
            assert self.figure.bbox.containsx(box.x0), text
            assert self.figure.bbox.containsx(box.x1), text
            assert self.figure.bbox.containsy(box.y1), text
        return [text.get_text() for text in texts]

    def _is_shown(self, text: object) -> bool:
        """Labels of an axis are kept for places outside it too, and hidden where it is shared."""
        for panel in self.figure.axes:
            for axis, (low, high) in (
                (panel.xaxis, panel.get_xlim()),
                (panel.yaxis, panel.get_ylim()),
            ):
                for tick in axis.get_major_ticks():
                    if text in (tick.label1, tick.label2):
                        return tick.label1 is text and low <= tick.get_loc() <= high
        return True


def test_a_picture_is_written(tmp_path: Path) -> None:
    log = written(tmp_path / "log.jsonl", list(whole_run()))
    assert draw(log, tmp_path / "curves.png", "tiny")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "curves.png"}


def test_curves_are_those_of_the_log(tmp_path: Path) -> None:
    drawn = Drawn(written(tmp_path / "log", list(whole_run())))
    # A mean over an epoch stands in its middle, a validation at its end.
    assert drawn.line("loss", "training") == [(0.5, 3.5), (1.5, 3.0), (2.5, 2.5), (3.5, 2.0)]
    assert drawn.line("loss", "validation") == [(1, 1.75), (2, 1.5), (3, 1.25), (4, 1.0)]
    assert drawn.line("error", "top-1") == list(zip(range(1, 5), ERRORS, strict=True))
    assert drawn.line("error", "top-5") == [(n, e / 5) for n, e in enumerate(ERRORS, start=1)]
    assert drawn.line("error", "best") == [(3, 0.125)]
    looks = drawn.loss.lines[0].get_xydata()
    np.testing.assert_allclose(looks[:3], [[0.15, 4.7], [0.45, 4.4], [0.8, 4.0]])
    assert len(looks) == 12
    rate = drawn.rate.lines[0]
    assert rate.get_drawstyle() == "steps-post"
    assert rate.get_xydata().tolist() == [[0, 0.01], [2, 0.001], [4, 0.001]]
    assert drawn.rate.get_yscale() == "log"
    texts = drawn.texts()
    assert "tiny" in texts
    assert "best validation error 12.50% (top-5 2.50%) after epoch 3" in texts
    assert "epoch (10 steps each)" in texts
    assert {"0.01", "0.001", "0%", "50%", "training", "validation", "top-1"} <= set(texts)


def test_of_boxes_there_is_one_error(tmp_path: Path) -> None:
    seen = [an_epoch(n, error=error, is_of_boxes=True) for n, error in enumerate(ERRORS, start=1)]
    drawn = Drawn(written(tmp_path / "log", seen))
    assert drawn.line("error", "localisation") == list(zip(range(1, 5), ERRORS, strict=True))
    assert drawn.line("error", "best") == [(4, 0.25)]
    texts = drawn.texts()
    assert "best validation error 25.00% after epoch 4" in texts
    assert "localisation" in texts
    assert not {"top-1", "top-5"} & set(texts)


def test_a_line_cut_in_half_is_passed_over(tmp_path: Path) -> None:
    seen = list(whole_run())
    whole = read_log(written(tmp_path / "whole", seen[:7]))
    half = json.dumps(asdict(seen[7]))[:40]
    assert read_log(written(tmp_path / "half", seen[:7], end=half)) == whole
    (tmp_path / "half").write_bytes((tmp_path / "half").read_bytes() + b"\xc3")  # half a letter
    assert read_log(tmp_path / "half") == whole
    assert Drawn(tmp_path / "half").texts()


def test_of_steps_that_a_run_repeats_the_last_count(tmp_path: Path) -> None:
    first, again = list(whole_run())[:11], list(whole_run())
    first = [a_step(now.step, loss=9.0) if isinstance(now, Step) else now for now in first]
    lines = read_log(written(tmp_path / "log", [*again[:4], *first[4:], *again[4:]]))
    assert lines == read_log(written(tmp_path / "whole", again))


def test_no_epoch_is_complete(tmp_path: Path) -> None:
    drawn = Drawn(written(tmp_path / "log", list(whole_run())[:3]))
    assert drawn.line("loss", "training") == [(1.5, 4.7), (4.5, 4.4), (8.0, 4.0)]
    texts = drawn.texts()
    assert {"no epoch has come to its end", "not yet validated", "step"} <= set(texts)


@pytest.mark.parametrize("number", [1, 2, 4, 5, 9])
def test_short_runs_are_readable(tmp_path: Path, number: int) -> None:
    drawn = Drawn(written(tmp_path / "log", list(whole_run())[:number]), net="n" * 200)
    drawn.texts()
    assert drawn.loss.get_position().width > 0.7  # a long name does not press it together
    for panel in (drawn.loss, drawn.error):
        for line in panel.lines[:1]:
            assert len(line.get_xydata()) > 1 or line.get_marker() == "o"


def test_epochs_without_a_look_between(tmp_path: Path) -> None:
    drawn = Drawn(written(tmp_path / "log", EPOCHS))
    assert len(drawn.line("loss", "training")) == 4
    assert drawn.texts()


def test_few_classes_have_no_top_5(tmp_path: Path) -> None:
    drawn = Drawn(written(tmp_path / "log", [an_epoch(1, classes=5)]))
    assert "top-5" not in drawn.texts()


def test_a_perfect_net_is_drawn(tmp_path: Path) -> None:
    assert Drawn(written(tmp_path / "log", [an_epoch(1, loss=0.0, error=0.0)])).texts()


def test_a_long_log_is_drawn_with_few_points(tmp_path: Path) -> None:
    """And one wild loss does not flatten the rest."""
    seen: list[Step | Epoch] = []
    for number in range(1, 75):
        for step in range(100 * number - 99, 100 * number):
            loss = 1e6 if step == 5000 - 1 else 7.0 / number + step % 2
            seen.append(a_step(step, epoch=number, loss=loss, last_step=7400))
        seen.append(an_epoch(number, steps=100, loss=7.0 / number))
    drawn = Drawn(written(tmp_path / "log", seen))
    x, y = drawn.loss.lines[0].get_xydata().T
    assert len(x) == curves.MOST_POINTS
    assert (np.diff(x) > 0).all()
    assert (x[0] < 0.1, x[-1] > 73.9) == (True, True)
    assert y[0] == pytest.approx(7.5, abs=0.5)
    assert drawn.loss.get_ylim()[1] < 10
    assert drawn.line("loss", "training")[0][0] == 0.5
    drawn.texts()


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert not draw(written(tmp_path / "log", [], end='{"step": 1'), tmp_path / "out.png", "tiny")
    assert not (tmp_path / "out.png").exists()


def test_a_picture_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    log = written(tmp_path / "log", EPOCHS)
    with pytest.raises(VggspecError) as caught:
        draw(log, log / "curves.png", "tiny")
    assert isinstance(caught.value.reports[0].what, CannotWrite)


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(tmp_path / "log", EPOCHS)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[train\]"'):
        draw(log, tmp_path / "curves.png", "tiny")
    assert not (tmp_path / "curves.png").exists()


def test_other_pictures_of_the_user_are_let_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = written(tmp_path / "log", EPOCHS)
    draw(log, tmp_path / "before.png", "tiny")
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    draw(log, tmp_path / "after.png", "tiny")
    assert matplotlib.rcParams["axes.facecolor"] == "red"
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "after.png").read_bytes()


def test_it_draws_without_a_word(tmp_path: Path) -> None:
    """Where matplotlib may keep nothing, which it says elsewhere; and no window is looked for."""
    written(tmp_path / "log", EPOCHS)
    (tmp_path / "file").touch()
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vggspec.training.curves import draw\n"
        "draw(Path('log'), Path('curves.png'), 'tiny')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "import logging\n"
        "assert logging.getLogger('matplotlib').level == logging.NOTSET\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "file" / "below"), "MPLBACKEND": "TkAgg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("classes", "said"), [(5, "error 25.00%"), (6, "error 25.00% (top-5 5.00%)")]
)
def test_among_five_classes_top_5_says_nothing(classes: int, said: str) -> None:
    assert an_epoch(1, error=0.25, classes=classes).validation.in_words() == said
