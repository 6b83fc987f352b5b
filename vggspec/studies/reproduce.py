"""Measuring a table of the paper: the nets for which there are weights, beside its numbers."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from vggspec.base.arguments import Device, StrPath, check_choice, check_whole
from vggspec.base.catalogue.evaluating import NoTableWeights
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.lower import load_network
from vggspec.compiler.weights import open_weights
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.runtime.protocol import Way
from vggspec.studies.evaluation.answers import Errors
from vggspec.studies.evaluation.evaluate import announce, answered
from vggspec.studies.evaluation.question import NetLooks, Question, Setting, ask
from vggspec.studies.paper import GRID, JITTERED, TABLES, TableName, TableRow, Trained
from vggspec.studies.tasks.work import Effort

TITLES: dict[TableName, str] = {name: f"Table {name[-1]}" for name in get_args(TableName)}


@dataclass(frozen=True, slots=True)
class Measured:
    """A row of the paper, and the errors that were measured; None without weights."""

    row: TableRow
    errors: Errors | None

    def as_data(self) -> dict[str, Any]:
        """The row for JSON."""
        row, errors = self.row, self.errors
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


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A table of the paper and what was measured of it."""

    table: TableName
    rows: tuple[Measured, ...]

    @property
    def title(self) -> str:
        """``Table 3``."""
        return TITLES[self.table]

    @property
    def images(self) -> int:
        """How many images the errors were measured on."""
        return max(one.errors.images for one in self.rows if one.errors is not None)

    def as_data(self) -> list[dict[str, Any]]:
        """The rows for JSON."""
        return [row.as_data() for row in self.rows]


def reproduce(
    table: TableName,
    data: StrPath,
    weights: StrPath,
    *,
    split: str = "val",
    limit: int | None = None,
    device: Device = "auto",
    procs: int | None = None,
    gpus: int | None = None,
    threads: int | None = None,
    batch_pixels: int | None = None,
    resume: bool = False,
    finish: Callable[[Reproduction], None] | None = None,
    watch: Watcher = SILENT,
) -> Reproduction:
    """Measure the rows of a table for which there are weights.

    Nets of several rows see each image once. The nets are compiled from the specs that come with
    vggspec, into a temporary folder that refers to the weights.

    Args:
        table: ``table3`` for one scale, ``table4`` for several, ``table5`` for dense evaluation and
            crops, ``table6`` for two fused nets.
        data: ImageNet: class folders or shards.
        weights: A folder of weights by net and S: ``D-256.safetensors``, ``D-384.safetensors``, and
            ``D-256..512.safetensors`` or ``D.safetensors``.
        split: The folder below ``data``.
        limit: The largest number of images to use, taken evenly from all.
        device: Where the nets run.
        procs: Processes that share the images.
        gpus: The same, each with a GPU of its own.
        threads: CPU threads of each process; by default all cores, shared among processes.
        batch_pixels: The largest batch; one image always fits.
        resume: Whether to resume an interrupted call with the same arguments.
        finish: Is called with the result while it is still kept: if this raises, the call can be
            resumed without computing anything again.
        watch: Receives the progress.

    Raises:
        VggspecError: there are no weights or those of another net, the data cannot be used, or a
            net fails.
        ArgumentError: there is no such table, ``procs`` and ``gpus`` are both given, or a number is
            out of range.
        TypeError: an argument is of the wrong type.
        MissingLibraryError: the device was requested by name and is not available.
    """
    check_choice("table", table, TableName)
    check_whole("limit", limit, least=1)
    effort = Effort.of(
        device=device,
        procs=procs,
        gpus=gpus,
        threads=threads,
        batch_pixels=batch_pixels,
        resume=resume,
    )
    watch = effort.watcher(watch)
    images = open_labelled(Path(data), split)
    for note in images.notes:
        watch.note(note)
    with contextlib.ExitStack() as stack:
        rows = measure(
            table, TABLES[table], specs(), Path(weights), images, limit, effort, stack, watch
        )
        found = Reproduction(table=table, rows=tuple(rows))
        if finish is not None and effort.is_first:
            finish(found)
        return found


def specs() -> Path:
    """The folder of the specs that come with vggspec."""
    return Path(str(resources.files("vggspec.specs")))


def measure(
    table: TableName,
    rows: Sequence[TableRow],
    folder: Path,
    weights: Path,
    images: Labelled,
    limit: int | None,
    effort: Effort,
    stack: contextlib.ExitStack,
    watch: Watcher = SILENT,
) -> list[Measured]:
    """The rows, those with weights measured; results are kept until ``stack`` is closed.

    ``folder`` contains the nets' specs.

    Raises:
        VggspecError: as ``reproduce``.
    """
    trained = dict.fromkeys(net for row in rows for net in row.nets)
    files = {net: _find(weights, net) for net in trained}
    missing = [net for net, path in files.items() if path is None]
    looked = [name for net in missing for name in _names(net)]
    groups: dict[tuple[Trained, ...], list[TableRow]] = {}
    for row in rows:
        if not any(net in missing for net in row.nets):
            groups.setdefault(row.nets, []).append(row)
    if not groups:
        what = NoTableWeights(table=TITLES[table], looked=tuple(looked))
        raise VggspecError(report(what, path=str(weights)))
    if missing:
        names = ", ".join(net.name for net in missing)
        watch.note(f"no weights for {names}; looked for {', '.join(looked)}")
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vggspec-")))
    bundles: dict[Trained, Bundle] = {}
    for net, path in files.items():
        if path is not None and any(net in nets for nets in groups):
            bundles[net] = _compiled(folder / f"{net.net}.vgg", path, scratch / net.name)
    questions = {
        nets: _question(of_nets, [bundles[net] for net in nets], images, limit, effort, watch)
        for nets, of_nets in groups.items()
    }
    for question in questions.values():
        announce(question, effort, watch)
    found: dict[TableRow, Errors] = {}
    for nets, question in questions.items():
        paths = tuple(str(bundles[net].path) for net in nets)
        tally = stack.enter_context(answered(question, effort, paths, watch)).tally
        if tally.left_out:
            watch.note(f"{count(len(tally.left_out), 'image')} could not be read, left out")
        found.update(zip(groups[nets], tally.settings, strict=True))
    return [Measured(row, found.get(row)) for row in rows]


def _names(net: Trained) -> tuple[str, ...]:
    """The names that its weights may have."""
    names = (f"{net.name}.safetensors",)
    return (*names, f"{net.net}.safetensors") if net.scale == JITTERED else names


def _find(weights: Path, net: Trained) -> Path | None:
    paths = (weights / name for name in _names(net))
    return next((path for path in paths if path.is_file()), None)


def _compiled(spec: Path, weights: Path, out: Path) -> Bundle:
    write_bundle(load_network(str(spec)), open_weights(weights), out, CompileOptions(), refer=True)
    return open_bundle(out)


def _question(
    rows: Sequence[TableRow],
    bundles: Sequence[Bundle],
    images: Labelled,
    limit: int | None,
    effort: Effort,
    watch: Watcher,
) -> Question:
    """All rows of the same nets, in one pass over the images."""
    question, assumed = ask(
        bundles,
        [_protocol(rows)] * len(bundles),
        images,
        names=[net.name for net in rows[0].nets],
        limit=limit,
        device=effort.device,
        threads=effort.threads,
        batch_pixels=effort.batch_pixels,
    )
    if assumed is not None:
        watch.note(assumed)
    settings = tuple(
        Setting(
            tuple(NetLooks(net=i, scales=row.scales, ways=_ways(row)) for i in range(len(bundles)))
        )
        for row in rows
    )
    return replace(question, settings=settings)


def _protocol(rows: Sequence[TableRow]) -> TestProtocol:
    ways = {way for row in rows for way in _ways(row)}
    return TestProtocol(
        scales=tuple(dict.fromkeys(scale for row in rows for scale in row.scales)),
        dense="dense" in ways,
        crops=GRID if "crops" in ways else None,
    )


def _ways(row: TableRow) -> tuple[Way, ...]:
    match row.evaluation:
        case "dense":
            return ("dense",)
        case "multi-crop":
            return ("crops",)
        case "multi-crop & dense":
            return ("dense", "crops")
