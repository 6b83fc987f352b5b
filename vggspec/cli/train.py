"""``vggspec train``: a net from images, as its spec says, on one device or on many."""

import contextlib
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from vggspec.base import interrupt

if TYPE_CHECKING:
    from types import FrameType

    from vggspec.compiler.lower import Lowered
    from vggspec.lang.ast import Setting, Spec
    from vggspec.train.dataset import DataSet
    from vggspec.train.learning import Learning
    from vggspec.train.loop import Options
    from vggspec.train.progress import Result, Watch
    from vggspec.train.ranks import Ranks

CHANGED = "# --set "


@click.command(
    "train",
    epilog="""\b
Examples:
  vggspec train specs/D.vgg --data ILSVRC --gpus 4
  vggspec train specs/digits.vgg --data digits --seed 7
  vggspec train specs/D.vgg --set rate=0.02 --set "stop=after 10 epochs"
  vggspec train runs/D/2026-11-21-1 --resume
  vggspec train specs/D.vgg --gpus 0 --procs 2
  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500
      -m vggspec train specs/D.vgg""",
)
@click.argument("spec")
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with train/<class>/* and val/<class>/*, or train/*.tar and val/*.tar; for a net "
    "of boxes with annotations, by Pascal VOC or COCO.  "
    "[default: as the spec's `data` says, else $VGGSPEC_DATA, else ./data]",
)
@click.option(
    "--gpus",
    type=click.IntRange(0, 1024),
    help="GPUs of this machine to train on, a rank on each; 0 for the CPU.  "
    "[default: one if there is one]",
)
@click.option(
    "--procs", type=click.IntRange(1, 1024), help="Ranks to start on the CPU.  [default: 1]"
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="[default: 0]")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting of the spec's `train:` section for this run.",
)
@click.option(
    "--weights",
    "weights",
    multiple=True,
    metavar="FILE",
    help="Weights that `start from` takes, once for each net it names.  [default: the best of the "
    "net's newest run under runs/<net>/, else <net>.safetensors beside its spec or here]",
)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Folder of the run, not yet there or empty.  [default: runs/<net>/<date>-<number>]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where a run stopped: the one in --out, else the newest of the net. With --out, "
    "begin it where there is none yet.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    help="What is multiplied; weights are fp32.  [default: bf16 where the device has units for it]",
)
@click.option(
    "--micro-batch",
    type=click.IntRange(1),
    metavar="N",
    help="Images that a rank computes at once; gradients of a batch are added up.  "
    "[default: as many as memory holds]",
)
@click.option("--compile", "is_compiled", is_flag=True, help="Let torch.compile fuse what it can.")
@click.option(
    "--validate",
    type=click.Choice(["crop", "dense"]),
    help="Validate on the central crop, or densely on the whole image.  [default: crop]",
)
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    metavar="MINUTES",
    default=10.0,
    show_default=True,
    help="Time between checkpoints; one follows each epoch, too.",
)
@click.option(
    "--keep-every",
    type=click.IntRange(1),
    metavar="EPOCHS",
    help="Keep the weights of every so-manieth epoch, too.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Processes that decode images, for each rank.  [default: by the size of the data]",
)
@click.pass_obj
def command(arguments: tuple[str, ...], /, spec: str, **given: Any) -> int:
    """Train a net on a folder of images, as the paper does unless its spec says otherwise.

    SPEC may be the folder of a run: it is repeated, or, with --resume, gone on with. Prints the
    path of the best weights, which `vggspec compile` then finds by itself. Ctrl-C saves a
    checkpoint and leaves; a second one leaves at once.
    """
    from vggspec.base.diagnostic import MissingLibraryError, VggspecError
    from vggspec.base.optional import require

    written, begun = _read(spec)
    lowered = changed(written, _merged(begun, given["settings"]))
    require("torch", "training")
    from vggspec.base.catalogue.ranks import LostRank
    from vggspec.train.device import check_gpus
    from vggspec.train.launch import is_launched_here, launch, leave
    from vggspec.train.loop import training_network
    from vggspec.train.ranks import is_launched, joined

    training_network(lowered)
    if given["procs"] and given["gpus"]:
        raise click.UsageError("--procs are ranks on the CPU, --gpus on GPUs: give one of them")
    number = given["procs"] or given["gpus"] or 1
    if given["procs"]:
        given["gpus"] = 0
    if number > 1 and not is_launched():
        check_gpus(given["gpus"], number)
        return launch(arguments, number)
    with joined() as ranks:
        try:
            code = _train(spec, given, ranks)
        except (VggspecError, MissingLibraryError) as error:
            is_lost = isinstance(error, VggspecError) and isinstance(
                error.reports[0].what, LostRank
            )
            if (is_lost and is_launched_here()) or not ranks.speaks():
                return 1  # another rank or the launcher says what happened
            raise
    if is_launched_here():
        leave(code)
    return code


def _train(spec: str, given: dict[str, Any], ranks: "Ranks") -> int:
    """This rank's part."""
    from vggspec.cli.pacing import pacing
    from vggspec.cli.watching import watching
    from vggspec.compiler.lower import lower
    from vggspec.data.annotated import silently
    from vggspec.train.dataset import open_data
    from vggspec.train.launch import ending_with_launcher
    from vggspec.train.learning import Learning
    from vggspec.train.loop import check_validation, fit
    from vggspec.train.progress import NoWatch
    from vggspec.train.record import read_record
    from vggspec.train.runs import held

    written, begun = _read(spec)
    net = lower(written).network.name
    (old,) = ranks.from_first((_begun_run(spec, net, given),) if ranks.is_first else None)
    if old is not None:
        begun = read_record(old)
    options = _options(given, begun)
    lowered = changed(written, options.settings)
    check_validation(lowered.network, options.validate)
    where = data_folder(given["data"] or (begun["data"]["folder"] if begun else None), lowered)
    if not ranks.is_first:
        ranks.sum([0])  # the first one lists shards for all
    folder = open_data(where, lowered.network, pacing if ranks.is_first else silently)
    if ranks.is_first:
        ranks.sum([0])
    run = old or ranks.from_first(
        _new_run(lowered, given["out"], options.weights) if ranks.is_first else None
    )
    if ranks.is_first:
        how = "" if not given["resume"] else "begun: there was nothing yet to resume"
        how = how if old is None else "taken up again"
        _say_plan(lowered, folder, run, ranks, how, options.weights if old is None else None)
    learning = Learning(lowered.network, lowered.experiment.train, folder.train.labels)
    with stop_on_signals() as stop, ending_with_launcher(stop):
        with contextlib.ExitStack() as stack:
            watch: Watch = NoWatch()
            if ranks.is_first:
                stack.enter_context(held(run))
                watch = stack.enter_context(watching(learning.remark))
            result = fit(
                lowered,
                folder,
                run,
                options,
                ranks=ranks,
                is_resumed=old is not None,
                stop=stop,
                watch=watch,
            )
        if ranks.size > 1:
            # The launcher sends a signal to the others once one has left, also while they end.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            ranks.sum([0])
        if ranks.is_first and (not result.was_stopped or ranks.speaks()):
            _say_result(spec, given, result, learning)
        return 128 + stop.number if result.was_stopped else 0


def _read(target: str) -> "tuple[Spec, dict[str, Any] | None]":
    """The spec, or that of a run and what else the run was begun with.

    Raises:
        VggspecError: it cannot be read, or has mistakes.
    """
    from vggspec.base.source import Source
    from vggspec.bundle.manifest import MANIFEST
    from vggspec.lang.loading import load, pick
    from vggspec.lang.parser import parse
    from vggspec.train.record import read_record
    from vggspec.train.runs import RECORD

    if not Path(target).is_dir():
        return load(target), None
    if not (Path(target) / RECORD).exists():
        is_bundle = (Path(target) / MANIFEST).exists()
        kind = "a bundle" if is_bundle else "a folder, but not that of a run"
        raise click.UsageError(f"`{target}` is {kind}; name a spec, or the folder of a run.")
    record = read_record(Path(target))
    text = record["spec_text"].partition(f"\n{CHANGED}")[0]
    return pick(parse(Source(record["spec"], f"{text}\n")), record["net"]), record


def _begun_run(target: str, net: str, given: dict[str, Any]) -> Path | None:
    """The run to go on with, if that is what is asked for, and it has begun.

    Raises:
        VggspecError: there is none.
    """
    from vggspec.base.catalogue.runs import NoRun
    from vggspec.base.diagnostic import VggspecError, report
    from vggspec.train.runs import RECORD, RUNS, newest_run

    if not given["resume"]:
        return None
    if given["out"]:
        run = Path(given["out"])
        return run if (run / RECORD).is_file() else None
    found = Path(target) if Path(target).is_dir() else newest_run(net)
    if found is None:
        raise VggspecError(report(NoRun(reason=f"{RUNS / net}/ has none")))
    return found


def _new_run(lowered: "Lowered", out: str | None, weights: "Sequence[str]") -> Path:
    """A folder for a run that begins, made once the nets that it starts from are there and fit.

    Raises:
        VggspecError: they are not, something is in the way, or the system refuses.
    """
    from vggspec.train.runs import named_run, new_run
    from vggspec.train.start import initial_weights

    next(initial_weights(lowered, 0, given=weights), None)
    return named_run(Path(out)) if out else new_run(lowered.network.name)


def _options(given: dict[str, Any], record: dict[str, Any] | None) -> "Options":
    """What the command line says, and else what the run was begun with."""
    from vggspec.train.loop import Options

    begun = record["options"] if record else {}
    seed = given["seed"]
    if seed is None:
        seed = record["seed"] if record else 0
    return Options(
        seed=seed,
        settings=_merged(record, given["settings"]),
        weights=given["weights"] or _started_from(record, given["settings"]),
        gpus=given["gpus"],
        workers=given["workers"],
        precision=given["precision"] or begun.get("precision"),
        micro_batch=given["micro_batch"],
        is_compiled=given["is_compiled"] or bool(begun.get("compile")),
        validate=given["validate"] or begun.get("validate") or "crop",
        save_every_s=60 * given["save_every"],
        keep_every=given["keep_every"],
    )


def _started_from(record: dict[str, Any] | None, settings: "Sequence[str]") -> tuple[str, ...]:
    """The weights that a run started from, unless another start is asked for now."""
    if record is None or any(
        re.match(r"\s*start[\s=]+from\b", each, re.IGNORECASE) for each in settings
    ):
        return ()
    return tuple(dict.fromkeys(each["weights"] for each in record["started_from"]))


def _merged(record: dict[str, Any] | None, given: "Sequence[str]") -> tuple[str, ...]:
    """Settings that a run was begun with, and those given now, which replace them."""
    begun = record["settings"] if record else ()

    def key(setting: str) -> tuple[str, bool]:
        words = setting.replace("=", " ", 1).casefold().split()
        return (words or [""])[0], words[1:2] == ["from"]

    keys = {key(setting) for setting in given}
    return (*(setting for setting in begun if key(setting) not in keys), *given)


def changed(written: "Spec", settings: "Sequence[str]") -> "Lowered":
    """The spec as a net and a recipe, with settings of the recipe changed.

    Raises:
        VggspecError: the spec or a setting has mistakes.
    """
    from vggspec.compiler.lower import lower

    lowered = lower(written)
    return lower(_with_settings(written, lowered, settings)) if settings else lowered


def data_folder(option: str | None, lowered: "Lowered") -> Path:
    """Where the images are: as the command line says, else the spec, else the environment."""
    from vggspec.compiler.lower import base_folder

    written = lowered.experiment.train.data
    if option is not None:
        return Path(option)
    if written is not None:
        return base_folder(lowered.spec) / written
    return Path(os.environ.get("VGGSPEC_DATA") or "data")


def _with_settings(spec: "Spec", lowered: "Lowered", settings: "Sequence[str]") -> "Spec":
    """The spec with other lines in its ``train:`` section.

    Raises:
        VggspecError: one of them is no such line.
    """
    from vggspec.base.reports import Reports
    from vggspec.base.source import Source
    from vggspec.lang.parser import parse
    from vggspec.lang.sections import read_experiment

    lines = [setting.replace("=", " ", 1).strip() for setting in settings]
    text = "\n".join(["net changed", "train:", *(f"  {line}" for line in lines)])
    changed = parse(Source("--set", f"{text}\n")).specs[0]
    reports = Reports()
    image = lowered.network.input
    read_experiment(changed, (image.height, image.width), reports)
    reports.raise_if_any()
    keys = {_key(setting) for setting in changed.train}
    kept = [setting for setting in spec.train if _key(setting) not in keys]
    record = "".join(f"\n{CHANGED}{setting}" for setting in settings)
    source = Source(spec.source.name, f"{spec.source.text.rstrip()}\n{record}\n")
    return replace(spec, train=(*kept, *changed.train), source=source)


def _key(setting: "Setting") -> tuple[str, bool]:
    words = [word.text.casefold() for word in setting.words]
    return words[0].replace("color", "colour"), words[1:2] == ["from"]


class Stop(Event):
    """What asks a run to save and leave."""

    number: int = signal.SIGINT
    """The signal that did, of this rank."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """An event that Ctrl-C, SIGTERM or SIGHUP sets; the second time they interrupt as usual.

    Signals that are ignored when the block begins, or in it, stay ignored.
    """
    stop, first_at = Stop(), 0.0

    def on_signal(number: int, frame: "FrameType | None") -> None:
        nonlocal first_at
        if not stop.is_set():
            stop.number, first_at = number, time.monotonic()
            stop.set()
        elif not interrupt.is_echo(first_at):
            usual = before[number]
            if not callable(usual):
                raise interrupt.Interrupted(number)
            usual(number, frame)

    before: dict[int, Any] = {each: signal.getsignal(each) for each in interrupt.ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is on_signal:
                signal.signal(number, handler)


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
        *(f"start from {other.write()}" for other in recipe.start_from),
    ]
    return ", ".join(parts)


def _say_plan(
    lowered: "Lowered",
    folder: "DataSet",
    run: Path,
    ranks: "Ranks",
    how: str,
    weights: "Sequence[str] | None",
) -> None:
    """``weights`` are those that a start from other nets is given, None where it is over."""
    from vggspec.base.render import shown
    from vggspec.base.wording import count
    from vggspec.cli.targets import say_weights
    from vggspec.compiler.input_contract import in_words
    from vggspec.train.start import expected_input, origins, started_metadata

    net, image = lowered.network, lowered.network.input
    layers = count(len(net.weight_layers), "weight layer")
    of = "images" if net.outputs[0].name != "boxes" else "examples"
    images = f"{len(folder.train)} training and {len(folder.val)} validation {of}"
    lines = {
        "net": f"{net.name}, {layers}, {net.parameters} parameters,"
        f" input {image.height} × {image.width} {image.color}",
        "data": f"{folder.root}, {count(len(folder.classes), 'class')}, {images}",
        "recipe": recipe_line(lowered),
        "run": f"{run}, {how}" if how else f"{run}",
    }
    if ranks.size > 1:
        lines["ranks"] = f"{ranks.size}, each with a part of every batch"
    for word, text in lines.items():
        click.echo(f"{word + ':':8}{shown(text)}", err=True)
    for note in folder.notes:
        click.echo(note, err=True)
    if weights is not None:
        found = origins(lowered, given=weights)
        for origin in found:
            say_weights(origin.weights, f"start from {origin.net.name}")
        started = started_metadata(lowered, found)
        wanted = None if started is None else expected_input(image, started)
        if wanted is not None and wanted[1] != "spec":
            text = in_words(wanted[0], with_color=True)
            click.echo(f"input:  {text}, as the weights expect ({shown(wanted[1])})", err=True)


def _say_result(spec: str, given: dict[str, Any], result: "Result", learning: "Learning") -> None:
    from vggspec.base.render import shown
    from vggspec.cli.watching import duration
    from vggspec.train.record import read_record
    from vggspec.train.runs import BEST

    if result.num_left_out:
        lines = "".join(f"\n  {shown(line)}" for line in result.left_out)
        click.echo(f"{result.num_left_out} images could not be read, left out:{lines}", err=True)
    if result.best is not None:
        validation = result.best.validation
        click.echo(
            f"best validation error {validation.in_words()}"
            f" after epoch {result.best.epoch}; {duration(result.seconds)} in all",
            err=True,
        )
    if result.was_stopped:
        words = ["vggspec", "train", str(result.run), "--resume"]
        for key in ("data", "procs") if given["procs"] else ("data", "gpus"):
            words += [] if given[key] is None else [f"--{key}", str(given[key])]
        go_on = shlex.join(words)
        click.echo(f"interrupted at step {result.step}, saved; to resume:\n{go_on}", err=True)
        return
    best = result.run / BEST
    if Path(spec).is_dir():  # the run that was gone on with, or repeated
        record = read_record(result.run)
        spec = f"{record['spec']}:{record['net']}"
    command = shlex.join(["vggspec", "compile", spec, "--weights", str(best)])
    if result.best is not None and learning.has_learned_nothing(result.best):
        text = "this net has learned nothing and says one class for every image;"
        click.echo(f"{text} train it otherwise before you compile it:\n{command}", err=True)
    else:
        click.echo(f"compile it: {command}", err=True)
    click.echo(best)
