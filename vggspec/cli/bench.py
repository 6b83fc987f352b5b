"""``vggspec bench``: how fast bundles are on this machine, side by side."""

import contextlib
import json
import re
import signal
from typing import TYPE_CHECKING, Any

import click

from vggspec.cli.completing import SPEC
from vggspec.cli.computing import DEVICES, THREADS
from vggspec.cli.targets import check_spared
from vggspec.cli.terminal import tell, wide_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vggspec.studies.bench.result import Bench

SIZE = re.compile("([0-9]{1,6})[x×]([0-9]{1,6})")


def _read_sizes(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[tuple[int, int], ...] | None:
    """``224x224,384x512`` as rows and columns."""
    if value is None:
        return None
    found = [SIZE.fullmatch(part.strip()) for part in value.split(",")]
    sizes = [(int(each[1]), int(each[2])) for each in found if each is not None]
    if len(sizes) < len(found):
        raise click.BadParameter(
            f"{value!r} is not sizes, rows x columns, such as 224x224,384x512."
        )
    return tuple(sizes)


def _read_batches(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """``1,8`` as numbers."""
    if value is None:
        return None
    words = [part.strip() for part in value.split(",")]
    if not all(re.fullmatch("[0-9]{1,6}", word) for word in words):
        raise click.BadParameter(f"{value!r} is not numbers of images such as 1,8.")
    return tuple(map(int, words))


def _read_devices(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    """``cpu,openvino`` as names."""
    names = tuple(part.strip() for part in value.split(","))
    unknown = next((name for name in names if name not in DEVICES), None)
    if unknown is not None:
        raise click.BadParameter(f"{unknown!r} is not one of {', '.join(DEVICES)}.")
    return names


def _complete_devices(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """The devices that are not named yet, after the last comma."""
    from click.shell_completion import CompletionItem

    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(before + comma + each)
        for each in DEVICES
        if each.startswith(last) and each not in before.split(",")
    ]


@click.command(
    "bench",
    epilog="""\b
Examples:
  vggspec bench D
  vggspec bench D D-int8 --device cpu,openvino
  vggspec bench D --shape 224x224,384x512 --batch 1,8 --threads 2
  vggspec bench D --layers --plot D.png
  vggspec bench vgg-f --weights vgg-f.safetensors --json > vgg-f.json""",
)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE|SPEC...", type=SPEC)
@click.option(
    "--device",
    default="auto",
    callback=_read_devices,
    shell_complete=_complete_devices,
    metavar="LIST",
    help=f"Where each runs: one or more of {', '.join(DEVICES)}.  [default: auto]",
)
@click.option(
    "--shape",
    "sizes",
    callback=_read_sizes,
    metavar="LIST",
    help="Image sizes, such as 224x224,384x512.  [default: the net's window, and 384x512 with one "
    "image where the net takes it]",
)
@click.option(
    "--batch",
    "batches",
    callback=_read_batches,
    metavar="LIST",
    help="Images in a run.  [default: 1,8]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    metavar="S",
    help="How long each runs at each shape, five times at least.  [default: 2]",
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    metavar="N",
    help="How many times each runs at each shape at least, instead.",
)
@click.option(
    "--threads",
    type=THREADS,
    metavar="N",
    help="CPU threads.  [default: as many as the engine takes]",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="FILE",
    help="The weights of a SPEC; repeat it for the next one.  [default: random weights]",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Compare answers on these pictures.  [default: synthetic images]",
)
@click.option("--layers", is_flag=True, help="Time each layer, by the engine's profiler.")
@click.option("--plot", metavar="FILE", help="Draw the latencies as PNG, PDF or SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every run.")
@wide_option
def command(
    bundles: tuple[str, ...], *, plot: str | None, as_json: bool, device: Any, **options: Any
) -> int:
    """Measure how fast bundles run on this machine, and whether their answers agree.

    All are loaded, each in a process of its own, and take turns. Ratios are taken turn by turn, so
    that a machine whose speed drifts favours none. `of peak` is the share of what a matrix product
    of the same number type computes in the same engine beside it; `top-1` and `differs` compare
    answers with those of the first bundle of the same net in fp32.

    A SPEC is compiled first. Where a bundle runs on both cpu and openvino, the faster one is
    recorded, and the device `auto` follows it. Ctrl-C ends the measurement and prints what was
    measured.
    """
    from vggspec.cli import progress
    from vggspec.cli.bench_shown import print_bench
    from vggspec.studies.bench.bench import bench

    if plot is not None:
        check_spared([plot], [*bundles, *options["weights"]], option="--plot")

    def show(found: "Bench") -> None:
        shown.close()  # an interrupted measurement leaves its line
        if as_json:
            click.echo(json.dumps(found.as_data(), indent=2))
        else:
            print_bench(found)

    with contextlib.ExitStack() as shown:
        watch = shown.enter_context(progress.shown())
        found = bench(bundles, device=device, plot=plot, finish=show, watch=watch, **options)
    if not found.is_complete:
        tell("interrupted: these are the runs until then")
        return 128 + signal.SIGINT
    return 0
