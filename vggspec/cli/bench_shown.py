"""The tables and sentences that ``vggspec bench`` prints."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.table import memory, note_left_out, print_rows, print_table, print_text, scaled
from vggspec.cli.terminal import table_width

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def print_bench(found: "Bench") -> None:
    """Print all of it in tables, then what limits it in words."""
    left_out: dict[str, None] = {}
    for number, shape in enumerate(found.shapes):
        if number:
            click.echo()
        left_out |= dict.fromkeys(_print_shape(found, shape))
    note_left_out(left_out)
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


def _print_shape(found: "Bench", shape: "BatchShape") -> tuple[str, ...]:
    """Print the runs at a shape; the headings that were left out."""
    number, *size = shape
    click.echo(f"{count(number, 'image')} of {_by(size)}, times in ms")
    rows = [_cells(found, each) for each in found.at(shape)]
    return print_rows(
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
