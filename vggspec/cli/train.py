"""``vggspec train``: train a net on images, as its spec says, on one device or on several."""

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.completing import SPEC
from vggspec.cli.terminal import is_quiet, say, tell

if TYPE_CHECKING:
    from vggspec.training.progress import TrainResult


@click.command(
    "train",
    epilog="""\b
Examples:
  vggspec train specs/D.vgg --data ILSVRC --gpus 4
  vggspec train specs/digits.vgg --data digits --seed 7
  vggspec train specs/D.vgg --set rate=0.02 --set "stop=after 10 epochs"
  vggspec train runs/D/2026-11-21-1 --resume
  vggspec train specs/D.vgg --data ILSVRC --dry-run
  vggspec train specs/D.vgg --data ILSVRC --overfit 16
  vggspec train specs/D.vgg --gpus 0 --procs 2
  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d \\
      --rdzv-endpoint HOST:29500 -m vggspec train specs/D.vgg""",
)
@click.argument("spec", type=SPEC)
@click.option(
    "--data",
    metavar="DIR",
    help="Folder with train/<class>/* and val/<class>/*, or train/*.tar and val/*.tar; for a net "
    "of boxes, with annotations in Pascal VOC or COCO format; for one that labels pixels, "
    "with masks.  "
    "[default: the spec's `data`, else $VGGSPEC_DATA, else ./data]",
)
@click.option(
    "--gpus",
    type=click.IntRange(0, 1024),
    help="GPUs of this machine to train on, a process on each; 0 for the CPU.  "
    "[default: one, if the machine has one]",
)
@click.option(
    "--procs",
    type=click.IntRange(1, 1024),
    help="Processes to train with on the CPU.  [default: 1]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    help="The seed of all random choices.  [default: 0]",
)
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
    help="Weights that `start from` takes, once for each net that it names.  [default: the best "
    "of the net's newest run under runs/<net>/, else <net>.safetensors next to its spec or in the "
    "working folder]",
)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Folder of the run, new or empty.  [default: runs/<net>/<date>-<number>]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Resume a run where it stopped: the one in --out, else the newest of the net. With --out, "
    "a run that does not exist yet is started.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    help="Number type of the arithmetic; weights are fp32.  [default: bf16 where the device has "
    "units for it]",
)
@click.option(
    "--micro-batch",
    type=click.IntRange(1),
    metavar="N",
    help="Images that a process computes at once; gradients of a batch are added up.  "
    "[default: as many as memory allows]",
)
@click.option("--compile", is_flag=True, help="Use torch.compile.")
@click.option(
    "--validate",
    type=click.Choice(["crop", "dense"]),
    help="Validate on the central crop, or densely on the whole image.  [default: crop]",
)
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    metavar="MINUTES",
    help="Minutes between checkpoints; one is also written after each epoch.  [default: 10]",
)
@click.option(
    "--keep-every",
    type=click.IntRange(1),
    metavar="N",
    help="Keep the weights of every N epochs.",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Processes that decode images, for each training process.  [default: by the size of the "
    "data]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only report on the data, write pictures of images and crops, run two steps, and estimate "
    "time and memory.  [pictures: in --out, else runs/<net>/dry-run]",
)
@click.option(
    "--overfit",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Only see whether the net can learn N images by heart.",
)
@click.option(
    "--find-rate",
    is_flag=True,
    help="Only train for some steps at growing rates, draw the loss, and suggest a rate.  "
    "[curve: in --out, else runs/<net>/find-rate]",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    metavar="N",
    help="The most steps of --overfit, or those of --find-rate.  [default: 300 and 100]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result of one of these as JSON.")
def command(
    spec: str,
    *,
    out: str | None,
    save_every: float | None,
    dry_run: bool,
    overfit: int | None,
    find_rate: bool,
    steps: int | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Train a net on a folder of images, as the paper does unless its spec says otherwise.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D. It may also be the folder of a run, which is repeated, or resumed with --resume.

    Prints the path of the best weights, which `vggspec compile` then finds by itself. Ctrl-C saves
    a checkpoint and ends the run; a second one ends it at once.
    """
    if given["procs"] and given["gpus"]:
        raise click.UsageError("--procs are processes on the CPU, --gpus on GPUs: give one of them")
    asked = {"--dry-run": dry_run, "--overfit": overfit, "--find-rate": find_rate}
    chosen = [option for option, value in asked.items() if value]
    if chosen:
        from vggspec.cli.rehearsing import check_alone, rehearse

        check_alone(chosen, out, steps, save_every, given)
        return rehearse(chosen[0], spec, out, overfit, steps, given, as_json=as_json)
    if steps is not None or as_json:
        word = "--json" if as_json else "--steps"
        raise click.UsageError(f"{word} is for --dry-run, --overfit or --find-rate.")
    from vggspec.cli.train_progress import train_shown
    from vggspec.training.train import train

    if save_every is not None:
        given["save_every_s"] = 60 * save_every
    with train_shown() as watch:
        result = train(spec, run=out, watch=watch, **given)
    if result.is_reported_here:
        _say_result(result, given)
    return 128 + result.stopped_by if result.stopped_by is not None else 0


def _say_result(result: "TrainResult", given: dict[str, Any]) -> None:
    from vggspec.base.quantities import duration

    if result.num_left_out:
        lines = "".join(f"\n  {shown(line)}" for line in result.left_out)
        tell(
            f"{count(result.num_left_out, 'image')} could not be read and"
            f" {'is' if result.num_left_out == 1 else 'are'} left out:{lines}"
        )
    if result.best is not None:
        tell(
            f"best validation {result.best.validation.in_words()}"
            f" after epoch {result.best.epoch}; {duration(result.seconds)} in all"
        )
    if result.was_stopped:
        words = ["vggspec", "train", str(result.run), "--resume"]
        for key in ("data", "procs") if given["procs"] else ("data", "gpus"):
            words += [] if given[key] is None else [f"--{key}", str(given[key])]
        tell(f"interrupted at step {result.step}, saved; to resume:")
        click.echo(shlex.join(words), err=True)  # commands are for copying: not wrapped
        return
    if result.has_learned_nothing:
        tell(
            "this net has learned nothing: it names one class for every image;"
            " train it otherwise before you compile it" + ("." if is_quiet() else ":")
        )
    else:
        say("", "compile it:")
    if not is_quiet():
        click.echo(_compile_command(result), err=True)
    click.echo(result.weights)


def _compile_command(result: "TrainResult") -> str:
    """The command that compiles the net, into a folder whose name is free."""
    from vggspec.bundle.manifest import MANIFEST
    from vggspec.training.record import read_record

    words = ["vggspec", "compile", result.spec, "--weights", str(result.weights)]
    out = Path(read_record(result.run)["net"])  # as `compile` names it
    if out.exists() and not (out / MANIFEST).is_file():
        free = (f"{out}-bundle{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
        words += ["-o", next(name for name in free if not Path(name).exists())]
    return shlex.join(words)
