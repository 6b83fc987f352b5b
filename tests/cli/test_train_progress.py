"""What a run shows: on terminals of any width, and where there is no terminal."""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from tests.cli.terminals import on_terminal, seen
from tests.training.looks import a_step, an_epoch
from vggspec.cli.train_progress import TrainShown, epoch_line, step_line, train_shown
from vggspec.training.progress import Epoch, Step

Captured = pytest.CaptureFixture[str]

LONG = replace(
    a_step(123456, last_step=370000, epoch=123, loss=6.789, rate=0.0004),
    images_per_s=12345.6,
    left_s=1e6,
)
LONG_EPOCH = replace(
    an_epoch(123, steps=5005, last_step=370000, error=0.9876, rate=0.0004, classes=1000),
    images_per_s=12345.6,
    left_s=1e6,
)


def shown(width: int, told: Sequence[Step | Epoch]) -> list[str]:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, width=width, height=24, _environ={"TERM": "xterm"}
    )
    with contextlib.closing(TrainShown(console)) as watch:
        for now in told:
            (watch.step if isinstance(now, Step) else watch.epoch)(now)
    return seen(file.getvalue())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    short, first = a_step(1, last_step=40), an_epoch(1, is_best=False)
    lines = shown(width, [short, first, short, LONG, LONG_EPOCH, LONG])
    assert len(lines) >= 7
    for line in lines:
        assert len(line) <= width, line
    assert not any(line.startswith(("images", "left")) for line in lines)  # no rest of another


def test_eighty_columns_hold_what_one_wants_to_know() -> None:
    last = shown(80, [LONG_EPOCH, LONG])[-1]
    for part in ("epoch 123", "loss 6.789", "error 98.76%", "rate 0.0004", "12346 images/s"):
        assert part in last
    assert last.endswith("11 d 13 h left")
    last = shown(80, [an_epoch(1), a_step(11)])[-1]
    assert last.startswith("━╺━━ epoch 1")
    assert last.endswith("rate 0.01  1234 images/s  1 h 07 left")


def test_sixty_columns_hold_the_most_of_it() -> None:
    last = shown(60, [LONG_EPOCH, LONG])[-1]
    assert last.endswith("epoch 123  loss 6.789  error 98.76%  11 d 13 h left")
    assert shown(60, [LONG_EPOCH, LONG])[1].startswith(
        "epoch 123  loss  1.500  error 98.76%  top-5"
    )


def test_wide_terminals_show_everything() -> None:
    last = shown(120, [an_epoch(1), a_step(30)])[-1]
    assert last == (
        f"{'━' * 18}╺{'━' * 5} epoch 1  step 30/40  loss 2.000  error 25.00%"
        "  rate 0.01  1234 images/s  1 h 07 left"
    )


def test_the_error_is_that_of_the_last_validation() -> None:
    lines = shown(120, [a_step(1), an_epoch(1, error=0.5), a_step(11), an_epoch(2), a_step(21)])
    errors = [re.findall(r"error +(\S+)", line) for line in lines]
    moved = [error for line, error in zip(lines, errors, strict=True) if "step" in line]
    assert "error" not in step_line(a_step(1), None)
    assert moved[0] == []
    assert moved[-1] == ["25.00%"]
    assert ["50.00%"] in moved


def test_epochs_stay_above_the_line_that_moves() -> None:
    lines = shown(120, [a_step(1), an_epoch(1), a_step(11), an_epoch(2)])
    for number in (1, 2):
        assert epoch_line(an_epoch(number)) in lines


def test_a_star_marks_the_best_epoch() -> None:
    best = epoch_line(an_epoch(1, classes=3))
    other = epoch_line(an_epoch(1, classes=3, is_best=False))
    assert best == ("epoch   1  loss  1.500  error 25.00% *  rate 0.01  1234 images/s  1 h 07 left")
    assert other == best.replace("*", " ")
    assert "error 25.00%  top-5  5.00% *  rate" in epoch_line(an_epoch(1, classes=21))
    assert "error 25.00% *  rate" in epoch_line(an_epoch(1, classes=21, is_of_boxes=True))


@pytest.mark.parametrize("colors", ["", "1"])
def test_without_a_terminal_there_is_a_line_an_epoch(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, colors: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", colors)  # as CI services do
    with train_shown() as watch:
        for number in (1, 2):
            for step in range(1, 11):
                watch.step(a_step(step, epoch=number))
            watch.epoch(an_epoch(number))
    captured = capsys.readouterr()
    assert captured.err == f"{epoch_line(an_epoch(1))}\n{epoch_line(an_epoch(2))}\n"
    assert captured.out == ""


def test_a_log_file_is_silent_for_ten_minutes_at_most(capsys: Captured) -> None:
    time = 0.0
    lines = TrainShown(clock=lambda: time)
    for step in range(1, 3600):  # an hour, a look a second, an epoch after 1000
        time = float(step)
        lines.step(a_step(step, last_step=9999))
        if step == 1000:
            lines.epoch(an_epoch(1))
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[3] for line in said if "step" in line] == [
        f"{step}/9999" for step in (600, 1600, 2200, 2800, 3400)
    ]
    assert said[1] == epoch_line(an_epoch(1))
    assert said[2] == (
        "epoch 1  step 1600/9999  loss 2.000  error 25.00%  rate 0.01  1234 images/s  1 h 07 left"
    )


PROGRAM = """
import sys
from tests.training.looks import a_step, an_epoch
from vggspec.cli.train_progress import train_shown
with train_shown() as watch:
    watch.step(a_step(1))
    print("to a file", flush=True)
    print("a warning", file=sys.stderr)
    watch.epoch(an_epoch(1))
"""


@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_terminal_a_line_moves_and_is_gone_at_the_end(columns: int) -> None:
    text, out = on_terminal(PROGRAM, columns=columns)
    assert out == "to a file\n"
    lines = seen(text)
    assert lines[0] == "starting"
    assert "a warning" in lines
    assert epoch_line(an_epoch(1), columns) in lines
    assert all(len(line) <= columns for line in lines)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert text.endswith("\x1b[2K")  # and the line is gone


def test_a_dumb_terminal_gets_lines() -> None:
    text, _ = on_terminal(PROGRAM, term="dumb")
    assert text == f"a warning\r\n{epoch_line(an_epoch(1))}\r\n"
