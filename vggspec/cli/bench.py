"""``vggspec bench``: how fast bundles are on this machine, side by side."""

import json
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.completing import SPEC
from vggspec.cli.computing import DEVICES, THREADS
from vggspec.cli.table import memory, print_table, print_text, scaled
from vggspec.cli.targets import check_spared
from vggspec.cli.terminal import table_width, tell, wide_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from vggspec.bundle.profile import BatchShape
    from vggspec.studies.bench.result import Bench, Candidate, Measurement

HEADINGS = (
    "", "bundle", "device", "median", "p90", "p99", "runs", "cpu", "images/s", "speed", "of peak",
    "top-1", "differs",
)  # fmt: skip
OPTIONAL = tuple(map(HEADINGS.index, ("runs", "cpu", "p99", "images/s", "p90")))
LOADED = ("", "bundle", "device", "precision", "load", "memory", "peak FLOP/s")
LAYERS = ("", "layer", "ms", "of run", "MAC", "GFLOP/s", "GB/s", "node")
LONGEST_NAME, LONGEST_LAYER = 18, 26
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
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
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
@click.option("--plot", metavar="FILE", help="Draw the latencies as PNG.")
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
    from vggspec.studies.bench.bench import bench

    if plot is not None:
        check_spared([plot], [*bundles, *options["weights"]], option="--plot")
    with progress.shown() as watch:
        found = bench(bundles, device=device, plot=plot, watch=watch, **options)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        print_bench(found)
    if not found.is_complete:
        tell("interrupted: these are the runs until then")
        return 128 + signal.SIGINT
    return 0


def print_bench(found: "Bench") -> None:
    """Print all of it in tables, then what limits it in words."""
    for number, shape in enumerate(found.shapes):
        if number:
            click.echo()
        _print_shape(found, shape)
    click.echo()
    _print_loaded(found)
    timed = [each for each in found.measurements if each.layers is not None]
    for each in timed:
        if each.shape == found.shapes[0]:
            click.echo()
            _print_layers(found, each)
    click.echo()
    for line in _summary(found):
        print_text(line)


def _print_shape(found: "Bench", shape: "BatchShape") -> None:
    number, *size = shape
    click.echo(f"{count(number, 'image')} of {_by(size)}, times in ms")
    rows = [_cells(found, each) for each in found.at(shape)]
    print_table(
        [HEADINGS, *rows],
        right=range(3, len(HEADINGS)),
        optional=OPTIONAL,
        bold=(0,),
    )


def _cells(found: "Bench", each: "Measurement") -> tuple[str, ...]:
    candidate = found.candidates[each.candidate]
    is_first = each is found.at(each.shape)[0]
    agreement = each.agreement
    top1 = "" if agreement is None or agreement.top1 is None else _of(agreement.top1, agreement)
    return (
        "",
        _cut(candidate.name),
        candidate.device,
        _three(1e3 * each.median_s) + ("?" if each.is_noisy else ""),
        "" if each.p90_s is None else _three(1e3 * each.p90_s),
        "" if each.p99_s is None else _three(1e3 * each.p99_s),
        str(len(each.seconds)),
        _three(1e3 * each.cpu_s),
        _three(each.images_a_second),
        "1" if is_first else f"{found.speedup(each):.2f}",
        "" if each.share_of_peak is None else f"{each.share_of_peak:.0%}",
        top1,
        "" if agreement is None else f"{agreement.max_difference:.0e}",
    )


def _of(number: int, agreement: Any) -> str:
    return f"{number}/{agreement.images}"


def _print_loaded(found: "Bench") -> None:
    click.echo("loading, and the memory of the process")
    rows = [_loaded(found, i, each) for i, each in enumerate(found.candidates)]
    print_table([LOADED, *rows], right=range(4, len(LOADED)), bold=(0,))


def _loaded(found: "Bench", index: int, each: "Candidate") -> tuple[str, ...]:
    peaks = [m.peak_flops for m in found.measurements if m.candidate == index and m.peak_flops]
    return (
        "",
        _cut(each.name),
        each.device,
        each.precision,
        f"{_three(1e3 * each.load_s)} ms",
        memory(each.peak_bytes) if each.peak_bytes else "unknown",
        scaled(round(max(peaks))) if peaks else "",
    )


def _print_layers(found: "Bench", measured: "Measurement") -> None:
    layers = measured.layers
    assert layers is not None
    number, *size = measured.shape
    title = found.candidates[measured.candidate].title
    print_text(f"layers of {shown(title)}, {count(number, 'image')} of {_by(size)}")
    rows = [
        (
            "",
            _fused(each.layers),
            f"{1e3 * each.seconds:.3f}",
            f"{each.seconds / layers.run_s:.1%}",
            scaled(each.macs) if each.macs else "",
            _three(each.flops_a_second / 1e9) if each.macs else "",
            _three(each.bytes_a_second / 1e9),
            each.kind,
        )
        for each in layers.layers
    ]
    rest = [(f"no layer: {kind}", seconds) for kind, seconds in layers.others.items()]
    rest += [("between nodes", layers.between_s), ("whole run", layers.run_s)]
    rows += [
        ("", name, f"{1e3 * took:.3f}", f"{took / layers.run_s:.1%}", "", "", "", "")
        for name, took in rest
    ]
    print_table([LAYERS, *rows], right=range(2, 7), optional=(LAYERS.index("node"),), bold=(0,))
    if layers.untimed:
        print_text(
            f"Of {count(len(layers.untimed), 'layer')} the engine names no node:"
            f" {', '.join(map(shown, layers.untimed))}. Their time is in that of others."
        )


def _summary(found: "Bench") -> Iterator[str]:
    conditions = found.conditions
    shared = [each.agreement for each in found.measurements if each.agreement is not None]
    if shared:
        against = sorted({found.candidates[each.against].title for each in shared})
        where = (
            "synthetic images" if conditions.images == "synthetic"
            else f"pictures of {shown(conditions.images)}"
        )  # fmt: skip
        yield f"Answers are compared with {shown(', '.join(against))}, on {where}."
    wrong = {
        found.candidates[each.candidate].title
        for each in found.measurements
        if each.agreement is not None and not each.agreement.is_same
    }
    if wrong:
        yield f"Other classes or no finite numbers: {shown(', '.join(sorted(wrong)))}."
    if any(each.is_random for each in found.candidates):
        yield "Weights are random, and so are the answers."
    for each in found.recorded:
        yield f"On a CPU `auto` now runs {shown(each.name)} on the device `{each.device}`."
    if any(each.p90_s is None for each in found.measurements):
        yield "p90 takes 10 runs and p99 takes 100: see `--runs`."
    if any(each.is_noisy for each in found.measurements):
        yield "?: p90 is far above the median, so the time is doubtful. Ratios are less affected."
    if conditions.is_busy:
        yield (
            f"The machine is busy: {conditions.load:.1f} processes ran or waited for"
            f" {count(conditions.processors, 'processor')} before. Repeat it when it is idle."
        )


def _cut(name: str) -> str:
    """Its end: bundles of one folder begin alike."""
    name = shown(name)
    is_whole = table_width() is None or len(name) <= LONGEST_NAME
    return name if is_whole else f"…{name[1 - LONGEST_NAME :]}"


def _fused(layers: "Sequence[str]") -> str:
    """``conv1_1+relu1_1``, or the first and how many more."""
    name = shown("+".join(layers))
    if table_width() is None or len(name) <= LONGEST_LAYER or len(layers) == 1:
        return name
    return f"{shown(layers[0])} +{len(layers) - 1}"


def _by(size: Any) -> str:
    return " × ".join(map(str, size))


def _three(number: float) -> str:
    """About three digits."""
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f}"
