"""``vggspec eval``: a net's errors on a data set, or those of several nets together."""

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.files import check_folder
from vggspec.base.launched import is_other_rank
from vggspec.base.quantities import scaled
from vggspec.base.render import shown
from vggspec.base.wording import all_of, count
from vggspec.cli.computing import check_computing
from vggspec.cli.evaluating import grid_side, percents, print_errors, running_options
from vggspec.cli.progress import resumable
from vggspec.cli.protocol_options import resize_option, scales_option
from vggspec.cli.table import print_table, print_text
from vggspec.cli.terminal import tell, wide_option

if TYPE_CHECKING:
    from vggspec.studies.evaluation.evaluate import Evaluation
    from vggspec.studies.evaluation.explain import Explanation
    from vggspec.studies.segmentation.evaluate_maps import MapEvaluation


@click.command(
    "eval",
    epilog="""\b
Examples:
  vggspec eval D --data ILSVRC
  vggspec eval D --data ILSVRC --scales 256,384,512 --dense --crops 5x5
  vggspec eval D E --data ILSVRC --scales 256,384,512 --table
  vggspec eval D --data ILSVRC --scales 256,384,512 --explain
  vggspec eval D --data ILSVRC --report D-report --procs 4
  vggspec eval fcn8s --data VOC2012 --scales 300,400,500""",
)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option(
    "--data",
    "folder",
    required=True,
    metavar="DIR",
    help="Class folders or shards, to test on; pictures with masks for a net that labels pixels.",
)
@scales_option
@resize_option
@click.option("--dense/--no-dense", default=None, help="Apply the net to the whole image.")
@click.option(
    "--crops",
    callback=grid_side,
    metavar="5x5",
    help="Take crops on a grid; with --dense as well.  [default: both as the spec's `test:` says]",
)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Average with the mirror image.  [default: as the spec's `test:` says]",
)
@click.option(
    "--average",
    type=click.Choice(["scores", "posteriors"]),
    help="What to average over space.  [default: as the bundle was compiled]",
)
@click.option(
    "--pool",
    type=click.Choice(["floor", "ceil"]),
    help="How poolings round; Caffe rounds up.  [default: as the bundle was compiled]",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="N",
    help="Pixels between positions of the score map: 32, 16 or 8 for D.  [default: as the bundle "
    "was compiled]",
)
@click.option(
    "--enlarge",
    is_flag=True,
    help="If the net's window does not fit at a scale, use the next larger scale that fits.",
)
@click.option(
    "--table",
    is_flag=True,
    help="Compare each scale with all scales, dense application with crops, and each net with all.",
)
@click.option(
    "--per-class",
    is_flag=True,
    help="Print precision, recall and F1 of each class, and the calibration error.",
)
@running_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every image's result.")
@click.option(
    "--report",
    metavar="DIR",
    help="Write an HTML report with the worst mistakes, "
    "and pictures of the confusions and the calibration.",
)
@click.option("--explain", is_flag=True, help="Show what would be computed, and run nothing.")
@wide_option
def command(
    bundles: tuple[str, ...],
    *,
    folder: str,
    per_class: bool,
    as_json: bool,
    report: str | None,
    explain: bool,
    **options: Any,
) -> None:
    """Test nets on a data set: their top-1 and top-5 error, in percent; of a net that labels
    pixels, its mean IoU on pictures with masks.

    An image is rescaled to each Q; the posteriors of all its evaluations are averaged, as in
    section 3.2 of the paper. Several nets are fused by averaging theirs. Options that are not given
    are those of the spec's `test:` section.

    Results are the same to the last digit for all batches, threads and processes.
    """
    from vggspec.studies.evaluation.evaluate import evaluate
    from vggspec.studies.segmentation.evaluate_maps import labels_pixels

    check_computing(options)
    given = {"--per-class": per_class, "--json": as_json, "--report": report}
    if explain and any(given.values()):
        words = all_of([option for option, value in given.items() if value])
        raise click.UsageError(f"{words} cannot be used with --explain, which computes nothing.")
    if labels_pixels(bundles[0]):
        others = {"report": report, "explain": explain}
        _evaluate_maps(bundles, folder, options | others, as_json=as_json)
        return
    if report is not None and not is_other_rank():
        check_folder(report)
    if explain:
        if not is_other_rank():
            _explain(bundles, folder, options)
        return

    def finish(found: "Evaluation") -> None:
        _say_left_out(found.left_out)
        if as_json:
            click.echo(json.dumps(found.as_data(), indent=2))
        else:
            _print(found)
            if per_class:
                print_classes(found)

    with resumable() as watch:
        evaluate(bundles, folder, **options, report=report, finish=finish, watch=watch)


#: Options of nets that classify images.
_OF_CLASSES = (
    "dense", "crops", "average", "pool", "stride", "enlarge", "table", "report", "explain",
    "batch_pixels",
)  # fmt: skip

#: Pairs of classes that are shown.
_CONFUSED = 5


def _evaluate_maps(
    bundles: tuple[str, ...], folder: str, options: dict[str, Any], *, as_json: bool
) -> None:
    """Test a net that labels pixels."""
    from vggspec.studies.segmentation.evaluate_maps import evaluate_maps

    if len(bundles) > 1:
        raise click.UsageError("Nets that label pixels are tested one by one: name one bundle.")
    given = [name for name in _OF_CLASSES if options.pop(name) not in (None, False)]
    if given:
        name = {"batch_pixels": "batch"}.get(given[0], given[0])
        raise click.UsageError(f"`--{name}` is for nets that classify images; this labels pixels.")

    def finish(found: "MapEvaluation") -> None:
        _say_left_out(found.left_out)
        if as_json:
            click.echo(json.dumps(found.as_data(), indent=2))
        else:
            _print_maps(found)

    with resumable() as watch:
        evaluate_maps(bundles[0], folder, **options, finish=finish, watch=watch)


def _print_maps(found: "MapEvaluation") -> None:
    """A line for each class, the means, and which classes are confused most."""
    from vggspec.studies.evaluation.percents import percent

    def said(share: float) -> str:
        return "" if math.isnan(share) else percent(share)

    confusion = found.confusion
    pixels = confusion.counts.sum(axis=1).tolist()
    rows = [("class", "pixels", "IoU", "accuracy")]
    of_class = zip(found.labels, pixels, confusion.ious, confusion.accuracies, strict=True)
    for label, number, iou, accuracy in of_class:
        rows.append((shown(label), str(number), said(iou), said(accuracy)))
    means = percent(found.mean_iou), percent(found.mean_accuracy)
    rows += [("mean", "", *means), ("all pixels", str(sum(pixels)), "", said(found.pixel_accuracy))]
    print_table(rows, right=(1, 2, 3))
    click.echo()
    of = dict(zip(found.labels, pixels, strict=True))
    for true, named, number in found.confused[:_CONFUSED]:
        share = f"{percent(number / of[true])} of {shown(true)}" if of[true] else shown(true)
        print_text(f"{share} is taken to be {shown(named)}")
    click.echo(count(found.images, "picture"))


def _say_left_out(names: Sequence[str]) -> None:
    if names:
        lines = "".join(f"\n  {shown(name)}" for name in names)
        tell(f"{count(len(names), 'image')} could not be read, left out:{lines}")


def _print(found: "Evaluation") -> None:
    """A line for each setting, then the number of images."""
    rows = [
        ("net", "Q", "evaluation"),
        *((shown(e.nets), e.scales, e.ways) for e in found.settings),
    ]
    errors = [
        ("top-1 error", f"top-{found.question.top} error"),
        *(percents(each.errors) for each in found.settings),
    ]
    print_errors(rows, errors)
    classes = count(len(found.tally.by_class), "class")
    click.echo(f"{count(found.tally.images, 'image')} of {classes}")


def print_classes(found: "Evaluation") -> None:
    """A line for each class, their means, and how far posteriors can be believed."""
    from vggspec.studies.evaluation.percents import percent

    click.echo()
    rows: list[tuple[str, ...]] = [("class", "images", "precision", "recall", "F1")]
    rows += [
        (
            shown(one.label),
            str(one.images),
            *(percent(share) for share in (one.precision, one.recall, one.f1)),
        )
        for one in found.class_scores
    ]
    mean = found.macro_scores
    means = (percent(share) for share in (mean.precision, mean.recall, mean.f1))
    rows.append(("mean of the classes", "", *means))
    print_table(rows, right=(1, 2, 3, 4))
    if found.calibration is not None:
        calibration = found.calibration
        print_text(
            f"calibration error {percent(calibration.error)}: the mean confidence is"
            f" {percent(calibration.confidence)}, and {percent(1 - found.top1_error)} are right"
        )


# The plan.


def _explain(bundles: tuple[str, ...], folder: str, options: dict[str, Any]) -> None:
    from vggspec.studies.evaluation.evaluate import Request, explain

    names = {field.name for field in fields(Request)}
    asked = {name: value for name, value in options.items() if name in names}
    request = Request(bundles=bundles, data=folder, **asked)
    with resumable() as watch:
        found = explain(request, batch_pixels=options["batch_pixels"], watch=watch)
    _print_plan(found)


def _print_plan(found: "Explanation") -> None:
    """What happens to an image of the median size, and in all."""
    print_text(
        f"An image of {_times(found.size)} pixels, the median of {found.sampled},"
        " is read and decoded once."
    )
    click.echo()
    rows = [("Q", "rescaled to", "net", "evaluation", "inputs", "positions", "MACs")]
    before: tuple[str, ...] = ()
    for look in found.looks:
        head = str(look.scale), _times(look.rescaled), look.net
        rows.append(
            (
                *(("", "") if before[:2] == head[:2] else head[:2]),
                "" if before == head else shown(look.net),
                look.way,
                f"{look.inputs} × {_times(look.size)}",
                "1" if look.positions is None else _times(look.positions),
                scaled(look.macs),
            )
        )
        before = head
    print_table(rows, right=(0, 6))
    click.echo()
    total = scaled(found.macs * found.images, "MAC")
    print_text(
        f"{count(found.inputs, 'input')} and {scaled(found.macs, 'MAC')} an image;"
        f" {total} for {count(found.images, 'image')} of that size."
    )
    print_text(_batches(found))
    if len(found.settings) > 1:
        click.echo(f"{len(found.settings)} averages of these posteriors are shown:")
        for nets, scales, ways in found.settings:
            click.echo(f"  {shown(nets)}, Q {scales}, {ways}")


def _batches(found: "Explanation") -> str:
    from vggspec.studies.pipeline import BATCH_PIXELS, ROUND_IMAGES

    mirrored = ", an image with its mirror image" if found.is_mirrored else ""
    most = f"up to {found.batch_pixels} pixels a batch"
    if found.batch_pixels is None:
        cpu, gpu = BATCH_PIXELS["cpu"], BATCH_PIXELS["cuda"]
        most = f"up to {cpu} pixels a batch on a CPU, {gpu} on a GPU"
    return (
        f"Inputs of the same shape go through a net together{mirrored}: {most}, of up to"
        f" {ROUND_IMAGES} images at a time."
    )


def _times(sides: tuple[int, ...]) -> str:
    return " × ".join(map(str, sides))
