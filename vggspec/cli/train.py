"""``vggspec train``: a net from a folder of images, as its spec says."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

if TYPE_CHECKING:
    from threading import Event
    from types import FrameType

    from vggspec.compiler.lower import Lowered
    from vggspec.lang.ast import Setting, Spec
    from vggspec.train.images import ImageFolder
    from vggspec.train.progress import Epoch, Result, Step, Watch

INTERRUPTED = 128 + signal.SIGINT


@click.command(
    "train",
    epilog="""\b
Examples:
  vggspec train specs/D.vgg --data ILSVRC
  vggspec train specs/digits.vgg --data digits --seed 7
  vggspec train specs/D.vgg --set rate=0.02 --set "stop=after 10 epochs"
  vggspec train specs/D.vgg --set start=glorot --device cuda""",
)
@click.argument("spec")
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with train/<class>/* and val/<class>/*.  [default: as the spec's `data` says, "
    "else $VGGSPEC_DATA, else ./data]",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting of the spec's `train:` section for this run.",
)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Folder of the run, not yet there or empty.  [default: runs/<net>/<date>-<number>]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where the net is trained.  [default: a GPU if there is one]",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Processes that decode images.  [default: by the size of the data]",
)
def command(
    spec: str,
    data: str | None,
    seed: int,
    settings: tuple[str, ...],
    out: str | None,
    device: str,
    workers: int | None,
) -> int:
    """Train a net on a folder of images, as the paper does unless its spec says otherwise.

    Prints the path of the best weights, which `vggspec compile` then finds by itself. Ctrl-C saves
    the weights and leaves; a second one leaves at once.
    """
    from vggspec.compiler.lower import lower
    from vggspec.lang.loading import load
    from vggspec.optional import require

    written = load(spec)
    lowered = lower(written)
    if settings:
        lowered = lower(_with_settings(written, lowered, settings))
    require("torch", "training")
    from vggspec.train.images import open_folder
    from vggspec.train.loop import fit, training_network
    from vggspec.train.runs import named_run, new_run

    training_network(lowered)
    folder = open_folder(data_folder(data, lowered), lowered.network)
    run = named_run(Path(out)) if out else new_run(lowered.network.name)
    _say_plan(lowered, folder, run)
    with stop_on_signals() as stop, watching() as watch:
        result = fit(
            lowered,
            folder,
            run,
            seed=seed,
            device=cast("Literal['auto', 'cpu', 'cuda']", device),
            workers=workers,
            stop=stop,
            watch=watch,
        )
    return _say_result(spec, result)


def data_folder(option: str | None, lowered: "Lowered") -> Path:
    """Where the images are: as the command line says, else the spec, else the environment."""
    from vggspec.compiler.lower import base_folder

    written = lowered.experiment.train.data
    if option is not None:
        return Path(option)
    if written is not None:
        return base_folder(lowered.spec) / written
    return Path(os.environ.get("VGGSPEC_DATA") or "data")


def _with_settings(spec: "Spec", lowered: "Lowered", settings: tuple[str, ...]) -> "Spec":
    """The spec with other lines in its ``train:`` section.

    Raises:
        VggspecError: one of them is no such line.
    """
    from vggspec.diagnostic import Reports
    from vggspec.lang.parser import parse
    from vggspec.lang.sections import read_experiment
    from vggspec.source import Source

    lines = [setting.replace("=", " ", 1).strip() for setting in settings]
    text = "\n".join(["net changed", "train:", *(f"  {line}" for line in lines)])
    changed = parse(Source("--set", f"{text}\n")).specs[0]
    reports = Reports()
    image = lowered.network.input
    read_experiment(changed, (image.height, image.width), reports)
    reports.raise_if_any()
    keys = {_key(setting) for setting in changed.train}
    kept = [setting for setting in spec.train if _key(setting) not in keys]
    record = "".join(f"\n# --set {setting}" for setting in settings)
    source = Source(spec.source.name, f"{spec.source.text.rstrip()}\n{record}\n")
    return replace(spec, train=(*kept, *changed.train), source=source)


def _key(setting: "Setting") -> tuple[str, bool]:
    words = [word.text.casefold() for word in setting.words]
    return words[0].replace("color", "colour"), words[1:2] == ["from"]


@contextlib.contextmanager
def stop_on_signals() -> Iterator["Event"]:
    """An event that Ctrl-C or SIGTERM sets; the second time they interrupt as usual."""
    from threading import Event

    stop = Event()

    def on_signal(number: int, frame: "FrameType | None") -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watching() -> Iterator["Watch"]:
    """A progress line below the epochs on a terminal, else the epochs alone."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        yield _Bar(bar)


class _Lines:
    """A line an epoch."""

    def step(self, now: "Step") -> None:
        pass

    def epoch(self, now: "Epoch") -> None:
        click.echo(epoch_line(now), err=True)


class _Bar:
    """A line an epoch, and below them one that moves."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def step(self, now: "Step") -> None:
        text = (
            f"epoch {now.epoch}  step {now.step}/{now.last_step}  loss {now.loss:.3f}"
            f"  rate {now.rate:g}  {now.images_per_s:.0f} images/s  {duration(now.left_s)} left"
        )
        self._show(now, text)

    def epoch(self, now: "Epoch") -> None:
        self._bar.console.print(epoch_line(now), highlight=False, markup=False, soft_wrap=True)
        self._show(now, f"{duration(now.left_s)} left")

    def _show(self, now: "Step | Epoch", text: str) -> None:
        self._bar.update(self._task, completed=now.step, total=now.last_step, description=text)


def epoch_line(now: "Epoch") -> str:
    """How an epoch went, in a line."""
    errors = f"error {now.validation.top1_error:6.2%}"
    if len(now.validation.class_errors) > 20:  # of fewer classes, five say little
        errors += f"  top-5 {now.validation.top5_error:6.2%}"
    return (
        f"epoch {now.epoch:3}  loss {now.loss:6.3f}  {errors}{' *' if now.is_best else '  '}"
        f"  rate {now.rate:g}  {now.images_per_s:.0f} images/s  {duration(now.left_s)} left"
    )


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``2 h 05``, ``12 d 3 h``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02}"
    return f"{hours // 24} d {hours % 24} h"


def recipe_line(lowered: "Lowered") -> str:
    """The recipe in a line, in the words of a spec."""
    recipe = lowered.experiment.train
    low, high = recipe.scale
    parts = [
        f"scale {low}" if low == high else f"scale {low}..{high}",
        "flip" if recipe.flip else "flip off",
        f"colour-shift {recipe.colour_shift:g}",
        f"batch {recipe.batch}",
        f"momentum {recipe.momentum:g}",
        f"weight-decay {recipe.weight_decay:g}",
        f"dropout {recipe.dropout:g}",
        f"rate {recipe.rate:g}",
        f"decay {recipe.decay:g} on plateau of {recipe.patience} epochs, {recipe.decays} times",
        f"stop after {recipe.epochs} epochs"
        if recipe.epochs
        else f"stop after {recipe.iterations} iterations",
        f"start normal {recipe.start_std:g}"
        if recipe.start == "normal"
        else f"start {recipe.start}",
        *(f'start from "{other.path}"' for other in recipe.start_from),
    ]
    return ", ".join(parts)


def _say_plan(lowered: "Lowered", folder: "ImageFolder", run: Path) -> None:
    from vggspec.catalogue import count

    net, image = lowered.network, lowered.network.input
    layers = count(len(net.weight_layers), "weight layer")
    images = f"{len(folder.train)} training and {len(folder.val)} validation images"
    lines = {
        "net": f"{net.name}, {layers}, {net.parameters} parameters,"
        f" input {image.height} × {image.width} {image.color}",
        "data": f"{folder.root}, {count(len(folder.classes), 'class')}, {images}",
        "recipe": recipe_line(lowered),
        "run": str(run),
    }
    for word, text in lines.items():
        click.echo(f"{word + ':':8}{text}", err=True)


def _say_result(spec: str, result: "Result") -> int:
    from vggspec.train.runs import BEST, LAST

    if result.num_left_out:
        lines = "".join(f"\n  {line}" for line in result.left_out)
        click.echo(f"{result.num_left_out} images could not be read, left out:{lines}", err=True)
    if result.best is not None:
        validation = result.best.validation
        click.echo(
            f"best validation error {validation.top1_error:.2%} (top-5 {validation.top5_error:.2%})"
            f" after epoch {result.best.epoch}; {duration(result.seconds)} in all",
            err=True,
        )
    if result.was_stopped:
        last = result.run / LAST
        click.echo(
            f"interrupted at step {result.step}; the weights as they are: {last}\n"
            f"use them: vggspec compile {spec} --weights {last}",
            err=True,
        )
        return INTERRUPTED
    best = result.run / BEST
    click.echo(f"compile it: vggspec compile {spec} --weights {best}", err=True)
    click.echo(best)
    return 0
