"""Predictions as text, CSV, JSON lines and a JSON array."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vggspec.runtime.predictor import Prediction

    Write = Callable[[Prediction], None]

BAR = 20
STDOUT = "-"


def as_text(top: int) -> "Write":
    """Prints each prediction with its ``top`` likeliest classes."""
    return lambda prediction: click.echo(_text(prediction, top))


@contextlib.contextmanager
def as_array(top: int) -> "Iterator[Write]":
    """Prints all predictions as one JSON array when the block ends."""
    results: list[dict[str, Any]] = []
    yield lambda prediction: results.append(prediction.as_data(top))
    click.echo(json.dumps(results, indent=2))


@contextlib.contextmanager
def as_lines(path: str, top: int) -> "Iterator[Write]":
    """Writes JSON lines, one a prediction, to a file or to stdout."""
    with _sink(path) as write:
        yield lambda prediction: write(json.dumps(prediction.as_data(top)) + "\n")


@contextlib.contextmanager
def as_csv(path: str, top: int) -> "Iterator[Write]":
    """Writes CSV with a header, one row for each class, to a file or to stdout."""
    with _sink(path) as write:
        is_first = True

        def add(prediction: "Prediction") -> None:
            nonlocal is_first
            data = prediction.as_data(top)
            values = ["posterior" if prediction.kind == "posteriors" else "score"]
            if prediction.label_map is not None:
                values = ["pixels", "share", "posterior"]
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            if is_first:
                rows.writerow(["file", "rank", "label", "index", *values])
            is_first = False
            for rank, each in enumerate(data["areas" if "areas" in data else "top"], 1):
                numbers = [each[value] for value in values]
                rows.writerow([prediction.file, rank, each["label"], each["index"], *numbers])
            write(text.getvalue())

        yield add


@contextlib.contextmanager
def _sink(path: str) -> Iterator[Callable[[str], None]]:
    """Writes text to stdout, or to a file that is replaced as a whole when the block ends."""
    from vggspec.base.files import replacing_file

    if path == STDOUT:
        yield lambda text: click.echo(text, nl=False)
        return
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(replacing_file(path))

        def write(text: str) -> None:
            # Names that are not UTF-8 are escaped, as in JSON.
            file.write(text.encode(errors="backslashreplace"))

        yield write


def _text(prediction: "Prediction", top: int) -> str:
    from vggspec.base.render import shown

    name = shown(prediction.file or "")
    if prediction.kind == "scores":
        lines = [f"{name}  (class scores: the net has no soft-max)"]
        lines += [f"{value:10.4g}  {shown(label)}" for label, value in prediction.top(top)]
    else:
        lines, likeliest = [name], prediction.top(top)
        if prediction.label_map is not None:
            lines = [f"{name}  (shares of the image's pixels)"]
            likeliest = [(area.label, area.share) for area in prediction.areas()[:top]]
        lines += [
            f"{value:9.2%}  {_bar(value):{BAR}}  {shown(label)}" for label, value in likeliest
        ]
    return "\n".join(lines)


def _bar(share: float) -> str:
    """A bar of up to ``BAR`` columns, to an eighth of one where the output can show it."""
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return "#" * round(share * BAR)
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()
