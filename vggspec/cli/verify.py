"""``vggspec verify``: compare a bundle's outputs with those of the same net in fp32."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.base.wording import count

if TYPE_CHECKING:
    from vggspec.runtime.session import Device
    from vggspec.studies.verify.reference import Against
    from vggspec.studies.verify.verification import Comparison, Verification

REFERENCES: "dict[Against, str]" = {
    "onnxrt": "its fp32 graph in ONNX Runtime on the CPU",
    "torch": "its spec and weights in PyTorch on the CPU",
}
HEADINGS = ("profile", "images", "error", "largest", "mean", "cosine", "top-1", "top-5", "")
DROPPABLE = ("mean", "largest", "cosine")


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
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
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
@click.option("--wide", is_flag=True, help="Print all columns.")
def command(
    bundle: str,
    *,
    against: "Against | None",
    images: str | None,
    device: "Device",
    tolerance: float | None,
    seed: int,
    as_json: bool,
    wide: bool,
) -> int:
    """Compare a bundle's outputs with those of the same net in fp32.

    Synthetic images run at the smallest, usual and largest size of every profile, landscape and
    portrait. The error is the largest difference of class scores, relative to the largest score;
    posteriors are compared by their logarithms. NaN and infinity fail.

    For a bundle in fp16 or bf16, the numbers of every layer of the reference are compared with the
    range of that type. Arithmetic that cannot run here, such as fp16 on most CPUs, is reported as
    not certified.

    Exit code 1 if an error exceeds the tolerance or a number its type, 3 if the bundle cannot run
    here.
    """
    from vggspec.cli import progress
    from vggspec.studies.verify.verification import DeviceMismatchError, verify

    try:
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
    except DeviceMismatchError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        print_verification(found, wide=wide)
    return 0 if found.passed else 1


def print_verification(found: "Verification", *, wide: bool = False) -> None:
    """Print the table, the reservations and the verdict; ``wide`` keeps all columns."""
    from vggspec.cli.columns import wrapped
    from vggspec.studies.verify.ranges import in_words

    click.echo("\n".join(wrapped(_title(found))) + "\n")
    _print_table(found, wide=wide)
    click.echo()
    if not found.arithmetic.is_run:
        click.echo("\n".join(wrapped(found.arithmetic.in_words())) + "\n")
    ranges = () if found.ranges is None else in_words(found.ranges, found.manifest)
    for line in (*ranges, *_summary(found)):
        click.echo("\n".join(wrapped(line)))


def _title(found: "Verification") -> str:
    manifest = found.manifest
    kind = "graph" if manifest.engine is None else "engine"
    where = "CPU" if found.device == "cpu" else "GPU"
    model = f"its {manifest.precision} {kind} on the {where}"
    return f"{shown(found.bundle)}: {model} against {REFERENCES[found.against]}"


def _print_table(found: "Verification", *, wide: bool) -> None:
    from vggspec.cli.columns import fitting
    from vggspec.cli.terminal import use_color

    color = use_color(sys.stdout)
    rows = [_cells(each, found.tolerance) for each in found.comparisons]
    (head, *lines), note = fitting(HEADINGS, rows, DROPPABLE, wide=wide)
    click.echo(click.style(head, bold=True) if color else head)
    for each, row, line in zip(found.comparisons, rows, lines, strict=True):
        verdict = row[-1]
        if color:
            passes = each.passes(found.tolerance)
            verdict = click.style(verdict, fg="green" if passes else "red")
        click.echo(line.removesuffix(row[-1]) + verdict)
    if note:
        click.echo(f"\n{note}")


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
    saturated = sum(each.figures.saturated for each in found.comparisons)
    if saturated:
        yield (
            f"For {count(saturated, 'image')} the posteriors of all classes but one are too small"
            " to compare: compile it with `--map` to compare the scores."
        )


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
