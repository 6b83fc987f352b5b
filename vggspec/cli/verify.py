"""``vggspec verify``: compare a bundle's outputs with those of the same net in fp32."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.computing import DEVICES
from vggspec.cli.table import fitted, note_left_out, print_text
from vggspec.cli.terminal import table_width, use_color, wide_option

if TYPE_CHECKING:
    from vggspec.base.arguments import Device
    from vggspec.studies.verification.reference import Against
    from vggspec.studies.verification.verification import Comparison, Verification

REFERENCES: "dict[Against, str]" = {
    "onnxrt": "its fp32 graph in ONNX Runtime on the CPU",
    "torch": "its spec and weights in PyTorch on the CPU",
}
HEADINGS = ("profile", "images", "error", "largest", "mean", "cosine", "top-1", "top-5", "")
OPTIONAL = tuple(map(HEADINGS.index, ("mean", "largest", "cosine")))


@click.command(
    "verify",
    epilog="""\b
Examples:
  vggspec verify D
  vggspec verify D --images photos
  vggspec verify D --against torch --json""",
)
@click.argument("bundle")
@click.option(
    "--against",
    type=click.Choice(["onnxrt", "torch"]),
    help="Compare with the bundle's own fp32 graph in ONNX Runtime, or with its spec and weights "
    "in PyTorch.  [default: onnxrt if the bundle has such a graph, else torch]",
)
@click.option(
    "--images",
    metavar="DIR",
    help="Compare on these pictures, rescaled as the test protocol says.  [default: synthetic "
    "images, at the smallest, usual and largest size of every profile]",
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    help="Where the bundle runs; the reference runs on the CPU.  [default: auto]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="The largest error that passes.  [default: 8.3e-5 for fp32, 4.3e-3 for fp16 and TF32, "
    "3.4e-2 for bf16]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="The seed of the synthetic images.  [default: 0]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@wide_option
def command(
    bundle: str,
    *,
    against: "Against | None",
    images: str | None,
    device: "Device",
    tolerance: float | None,
    seed: int,
    as_json: bool,
) -> int:
    """Compare a bundle's outputs with those of the same net in fp32.

    Synthetic images run at the smallest, usual and largest size of every profile, landscape and
    portrait. The error is the largest difference of class scores, relative to the largest score;
    posteriors are compared by their logarithms. NaN and infinity fail.

    For a bundle in fp16 or bf16, the numbers of every layer of the reference are compared with the
    range of that type. Arithmetic that cannot run here, such as fp16 on most CPUs, is reported as
    not certified.

    Exit code 1 if an error exceeds the tolerance or a number exceeds its type, 3 if the bundle
    cannot run here.
    """
    from vggspec.cli import progress
    from vggspec.studies.verification.verification import verify

    with progress.shown() as watch:
        found = verify(
            bundle,
            against=against,
            images=images,
            device=device,
            tolerance=tolerance,
            seed=seed,
            watch=watch,
        )
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        print_verification(found)
    return 0 if found.passed else 1


def print_verification(found: "Verification") -> None:
    """Print the table, the reservations and the verdict."""
    from vggspec.studies.verification.ranges import in_words

    print_text(_title(found))
    click.echo()
    _print_table(found)
    click.echo()
    if not found.arithmetic.is_run:
        print_text(found.arithmetic.in_words())
        click.echo()
    ranges = () if found.ranges is None else in_words(found.ranges, found.manifest)
    for line in (*ranges, *_summary(found)):
        print_text(line)


def _title(found: "Verification") -> str:
    manifest = found.manifest
    kind = "graph" if manifest.engine is None else "engine"
    where = "CPU" if found.device == "cpu" else "GPU"
    model = f"its {manifest.precision} {kind} on the {where}"
    return f"{shown(found.bundle)}: {model} against {REFERENCES[found.against]}"


def _print_table(found: "Verification") -> None:
    color = use_color(sys.stdout)
    rows = [HEADINGS, *(_cells(each, found.tolerance) for each in found.comparisons)]
    table = fitted(rows, table_width(), optional=OPTIONAL)
    (head,), *lines = table.rows
    click.echo(click.style(head, bold=True) if color else head)
    for each, (line, *rest) in zip(found.comparisons, lines, strict=True):
        verdict = _verdict(each, found.tolerance)
        if color and line.endswith(verdict):
            tone = "green" if each.passes(found.tolerance) else "red"
            line = line.removesuffix(verdict) + click.style(verdict, fg=tone)
        click.echo("\n".join((line, *rest)))
    note_left_out(table.dropped)


def _cells(each: "Comparison", tolerance: float) -> tuple[str, ...]:
    figures = each.figures
    profile = "none" if each.profile is None else str(each.profile)
    return (
        profile if each.shape is None else f"{profile} {each.point}",
        str(figures.images) if each.shape is None else _by(each.shape),
        f"{figures.error:.1e}",
        f"{figures.max_abs:.1e}",
        f"{figures.mean_abs:.1e}",
        f"{figures.cosine:.6f}",
        f"{figures.top1}/{figures.images}",
        f"{figures.top5}/{figures.images}",
        _verdict(each, tolerance),
    )


def _verdict(each: "Comparison", tolerance: float) -> str:
    if not each.figures.is_finite:
        return "not finite"
    if not each.passes(tolerance):
        return "beyond"
    tied = f"{each.figures.tied} tied" if each.figures.tied else ""
    saturated = f"{each.figures.saturated} saturated" if each.figures.saturated else ""
    return ", ".join(filter(None, ("ok", tied, saturated)))


def _summary(found: "Verification") -> Iterator[str]:
    tolerance, failed = found.tolerance, found.failed
    if len(found.manifest.outputs) > 1 and found.manifest.result.kind == "activations":
        yield f"Largest errors: {', '.join(_largest(found))}."
    if failed:
        worst = max(failed, key=lambda e: (not math.isfinite(e.figures.error), e.figures.error))
        shape = _by(worst.shape) if worst.shape is not None else shown(worst.point)
        at = shape if worst.profile is None else f"profile {worst.profile} at {shape}"
        rows = count(len(found.comparisons), "row")
        yield f"{len(failed)} of {rows} beyond {tolerance:.1e}. The worst is {at}:"
        yield f"{shown(worst.figures.where)}, error {worst.figures.error:.1e}"
        return
    if found.arithmetic.is_run:
        yield f"All {found.num_images} images agree: no error beyond {tolerance:.1e}."
    else:
        images = count(found.num_images, "image")
        yield f"No error beyond {tolerance:.1e} in {images}, in the arithmetic that was run."
    made = found.manifest.calibration
    if made is not None:
        yield f"For int8 that only excludes gross mistakes. When compiled: {made.in_words()}."
    saturated = sum(each.figures.saturated for each in found.comparisons)
    if saturated:
        yield (
            f"For {count(saturated, 'image')} the posteriors of all classes but one are too small"
            " to compare: compile it with `--map` to compare the scores."
        )


def _largest(found: "Verification") -> Iterator[str]:
    for output in found.manifest.outputs:
        errors = [each.figures.errors[output.name] for each in found.comparisons]
        worst = max(errors, key=lambda error: (math.isnan(error), error))
        yield f"{shown(output.name)} {worst:.1e}"


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
