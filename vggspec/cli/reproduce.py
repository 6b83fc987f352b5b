"""``vggspec reproduce``: a table of the paper, measured beside printed."""

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from vggspec.base.wording import count
from vggspec.cli.evaluating import (
    Running,
    effort_of,
    evaluated,
    percent,
    running_options,
    say_notes,
    say_question,
)
from vggspec.cli.table import aligned
from vggspec.cli.terminal import say
from vggspec.studies.paper import GRID, JITTERED, TABLES, Row, TableName, Trained

if TYPE_CHECKING:
    from vggspec.base.recipe import TestProtocol
    from vggspec.bundle.manifest import Bundle
    from vggspec.data.labelled import Labelled
    from vggspec.runtime.protocol import Way
    from vggspec.studies.evaluation.answers import Errors
    from vggspec.studies.evaluation.question import Question

TITLES: dict[TableName, str] = {name: f"Table {name[-1]}" for name in get_args(TableName)}
NOT_MEASURED = "-"


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of the paper, and what was measured; None without weights."""

    row: Row
    errors: "Errors | None"


@click.command(
    "reproduce",
    epilog="""\b
Examples:
  vggspec reproduce table3 --data ILSVRC --weights weights
  vggspec reproduce table6 --data ILSVRC --weights weights --gpus 4
  vggspec reproduce table4 --data ILSVRC --weights weights --limit 1000""",
)
@click.argument("table", type=click.Choice(get_args(TableName)))
@click.option(
    "--data", "folder", required=True, metavar="DIR", help="ImageNet: class folders or shards."
)
@click.option(
    "--weights",
    required=True,
    metavar="DIR",
    help="Weights files by net and S: D-256.safetensors, D-384.safetensors, and "
    "D-256..512.safetensors or D.safetensors.",
)
@running_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(table: str, *, folder: str, weights: str, as_json: bool, **running: Any) -> None:
    """Measure the rows of a table for which there are weights, beside the paper's numbers.

    Table 3 is at one scale, 4 at several, 5 compares dense application with crops, 6 fuses two
    nets. The specs are those that come with vggspec.
    """
    from vggspec.data.labelled import open_labelled

    effort = effort_of(running)
    name = cast("TableName", table)
    images = open_labelled(Path(folder), effort.split)
    say_notes(images)
    with contextlib.ExitStack() as stack:
        rows = measure(name, TABLES[name], specs(), Path(weights), images, effort, stack)
        if as_json:
            click.echo(json.dumps([_as_dict(row) for row in rows], indent=2))
        else:
            click.echo("\n".join(in_table(name, rows)))


def specs() -> Path:
    """The folder of the specs that come with vggspec."""
    return Path(str(resources.files("vggspec.specs")))


def measure(
    table: TableName,
    rows: Sequence[Row],
    folder: Path,
    weights: Path,
    images: "Labelled",
    effort: Running,
    stack: contextlib.ExitStack,
) -> list[Measured]:
    """The rows, those with weights measured; what was found is kept until ``stack`` is closed.

    ``folder`` holds the nets' specs.

    Raises:
        VggspecError: there are no weights, or they are other nets', or a net fails.
    """
    from vggspec.base.catalogue.evaluating import NoTableWeights
    from vggspec.base.diagnostic import VggspecError, report

    trained = dict.fromkeys(net for row in rows for net in row.nets)
    files = {net: _find(weights, net) for net in trained}
    missing = [net for net, path in files.items() if path is None]
    looked = [name for net in missing for name in _names(net)]
    groups: dict[tuple[Trained, ...], list[Row]] = {}
    for row in rows:
        if not any(net in missing for net in row.nets):
            groups.setdefault(row.nets, []).append(row)
    if not groups:
        what = NoTableWeights(table=TITLES[table], looked=tuple(looked))
        raise VggspecError(report(what, path=str(weights)))
    if missing:
        names = ", ".join(net.name for net in missing)
        say("note", f"no weights for {names}; looked for {', '.join(looked)}")
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vggspec-")))
    bundles: dict[Trained, Bundle] = {}
    for net, path in files.items():
        if path is not None and any(net in nets for nets in groups):
            bundles[net] = _compiled(folder / f"{net.net}.vgg", path, scratch / net.name)
    questions = {
        nets: _question(of_nets, [bundles[net] for net in nets], images, effort)
        for nets, of_nets in groups.items()
    }
    for question in questions.values():
        say_question(question, str(images.folder), effort)
    found: dict[Row, Errors] = {}
    for nets, question in questions.items():
        tally = stack.enter_context(evaluated(question, effort)).tally
        if tally.left_out:
            say("note", f"{count(len(tally.left_out), 'image')} could not be read, left out")
        found.update(zip(groups[nets], tally.settings, strict=True))
    return [Measured(row, found.get(row)) for row in rows]


def in_table(table: TableName, rows: Sequence[Measured]) -> list[str]:
    """A line a row, the paper's errors beside the measured ones."""
    lines = [("net", "S", "Q", "evaluation", "top-1 error", "paper", "top-5 error", "paper")]
    for one in rows:
        row, errors = one.row, one.errors
        top1 = top5 = NOT_MEASURED
        if errors is not None:
            top1 = percent(errors.top1_error, errors.images)
            top5 = percent(errors.top5_error, errors.images)
        lines.append(
            (
                " + ".join(net.net for net in row.nets),
                " + ".join(dict.fromkeys(net.scale for net in row.nets)),
                ", ".join(map(str, row.scales)),
                row.evaluation,
                top1,
                f"{row.top1:.1f}",
                top5,
                f"{row.top5:.1f}",
            )
        )
    number = max(one.errors.images for one in rows if one.errors is not None)
    title = f"{TITLES[table]} of the paper, on {count(number, 'image')}"
    return [title, "", *aligned(lines, right=(4, 5, 6, 7))]


def _as_dict(one: Measured) -> dict[str, Any]:
    row, errors = one.row, one.errors
    return {
        "nets": [net.name for net in row.nets],
        "scales": row.scales,
        "evaluation": row.evaluation,
        "paper": {"top1_error": row.top1 / 100, "top5_error": row.top5 / 100},
        "measured": None
        if errors is None
        else {
            "images": errors.images,
            "top1_error": errors.top1_error,
            "top5_error": errors.top5_error,
        },
    }


def _names(net: Trained) -> tuple[str, ...]:
    """What its weights may be called."""
    names = (f"{net.name}.safetensors",)
    return (*names, f"{net.net}.safetensors") if net.scale == JITTERED else names


def _find(weights: Path, net: Trained) -> Path | None:
    paths = (weights / name for name in _names(net))
    return next((path for path in paths if path.is_file()), None)


def _compiled(spec: Path, weights: Path, out: Path) -> "Bundle":
    from vggspec.bundle.manifest import open_bundle
    from vggspec.compiler.backends.onnx.model import OnnxOptions
    from vggspec.compiler.bundles.writer import write_bundle
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import open_weights

    write_bundle(load_network(str(spec)), open_weights(weights), out, OnnxOptions(), refer=True)
    return open_bundle(out)


def _question(
    rows: Sequence[Row], bundles: "Sequence[Bundle]", images: "Labelled", effort: Running
) -> "Question":
    """All rows of the same nets, in one pass over the images."""
    from vggspec.studies.evaluation.question import Part, Setting, ask

    names = [net.name for net in rows[0].nets]
    protocols = [_protocol(rows)] * len(bundles)
    question, assumed = ask(
        bundles,
        protocols,
        images,
        names=names,
        limit=effort.limit,
        device=effort.effort.device,
        threads=effort.effort.threads,
        batch_pixels=effort.effort.batch_pixels,
    )
    if assumed is not None:
        say("note", assumed)
    settings = tuple(
        Setting(tuple(Part(net=i, scales=row.scales, ways=_ways(row)) for i in range(len(bundles))))
        for row in rows
    )
    return replace(question, settings=settings)


def _protocol(rows: Sequence[Row]) -> "TestProtocol":
    from vggspec.base.recipe import TestProtocol

    ways = {way for row in rows for way in _ways(row)}
    return TestProtocol(
        scales=tuple(dict.fromkeys(scale for row in rows for scale in row.scales)),
        dense="dense" in ways,
        crops=GRID if "crops" in ways else None,
    )


def _ways(row: Row) -> "tuple[Way, ...]":
    match row.evaluation:
        case "dense":
            return ("dense",)
        case "multi-crop":
            return ("crops",)
        case "multi-crop & dense":
            return ("dense", "crops")
