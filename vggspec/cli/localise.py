"""``vggspec localise``: locate objects in images, or measure the error on a data set."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.watcher import Watcher
from vggspec.base.wording import count
from vggspec.cli.computing import check_computing, computing_options, limit_option
from vggspec.cli.evaluating import grid_side
from vggspec.cli.pictures import check_targets, show_error, target_of
from vggspec.cli.progress import resumable
from vggspec.cli.protocol_options import resize_option, scales_option
from vggspec.cli.table import print_table, print_text
from vggspec.cli.terminal import wide_option

if TYPE_CHECKING:
    from vggspec.studies.localisation.errors import LocalisationTally
    from vggspec.studies.localisation.result import Localisation, LocalisedImage

CLASSES_SHOWN = 24  # of a data set, those with the largest error


@click.command(
    "localise",
    epilog="""\b
Examples:
  vggspec localise SCR photo.jpg -o boxes.png
  vggspec localise PCR photo.jpg --class "king penguin" -o boxes.png
  vggspec localise PCR photos/*.jpg --classifier D -o "boxes/{name}.png"
  vggspec localise PCR-256 photo.jpg --with PCR-384 --classifier D --json
  vggspec localise PCR --data VOC2012
  vggspec localise PCR --classifier D --data VOC2012 --scales 384,512""",
)
@click.argument("bundle")
@click.argument("images", nargs=-1, metavar="IMAGE...")
@click.option(
    "--with",
    "more",
    multiple=True,
    metavar="BUNDLE",
    help="One more net of boxes; may be repeated.",
)
@click.option(
    "--classifier",
    "classifiers",
    multiple=True,
    metavar="BUNDLE",
    help="A net that classifies the image; several are fused.",
)
@scales_option
@resize_option
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Use the mirror image too.  [default: the spec's `test:` section]",
)
@click.option(
    "--crops",
    callback=grid_side,
    metavar="5x5",
    help="With a classifier, use crops on a grid.  [default: the spec's `test:` section]",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="N",
    help="With a classifier, pixels between windows: 32, 16 or 8 for D.  [default: as the bundles "
    "were compiled]",
)
@click.option(
    "--enlarge",
    is_flag=True,
    help="If the net's window does not fit at a scale, use the next larger scale that fits.",
)
@click.option("--class", "label", metavar="NAME", help="The class to find, by label or index.")
@click.option(
    "--classes",
    type=click.IntRange(1),
    metavar="K",
    help="With a classifier, find the K likeliest classes.  [default: 1; 5 with `--data`]",
)
@click.option(
    "--match",
    type=click.FloatRange(min=0),
    metavar="T",
    help="Merge boxes whose match score is at most T: 0 for equal boxes, 1 and more for boxes that "
    "share nothing.  [default: 0.6]",
)
@click.option(
    "--literal",
    is_flag=True,
    help="Match boxes by the formula that OverFeat prints; T is then in pixels, and required.",
)
@click.option("-o", "out", metavar="FILE", help="Draw the boxes; `{name}` is the image's name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--data",
    "folder",
    metavar="DIR",
    help="Instead of images: a folder with VOC or COCO annotations, to measure errors on.",
)
@click.option("--split", default="val", metavar="NAME", help="The split of DIR.  [default: val]")
@limit_option
@click.option(
    "--iou",
    "least_iou",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="SHARE",
    help="The IoU above which a box is right.  [default: 0.5]",
)
@computing_options
@wide_option
def command(
    bundle: str,
    images: tuple[str, ...],
    *,
    more: tuple[str, ...],
    out: str | None,
    as_json: bool,
    folder: str | None,
    least_iou: float | None,
    **options: Any,
) -> int:
    """Locate objects in images with nets that end in boxes.

    Without a classifier, each net sees the central window of the image. With a classifier, it sees
    all windows: the boxes of the likeliest classes are merged, and the best one is printed.
    """
    _check_usage(images, folder, out=out, least_iou=least_iou, options=options)
    from vggspec.data.box_coding import RIGHT_IOU
    from vggspec.studies.localisation.localise import localise

    def show(image: "LocalisedImage") -> None:
        if image.error is not None:
            show_error(image.error)
            return
        if out is not None:
            _draw(image, target_of(out, image.file))
        if not as_json:
            _print_boxes(image)

    def finish(found: "Localisation") -> None:
        if as_json:
            click.echo(json.dumps(found.as_data(), indent=2))
        elif found.tally is not None:
            _print_errors(found, found.tally)

    with resumable() as watch:
        # Boxes that appear on a terminal need no progress beside them.
        prints = folder is None and not as_json and sys.stdout.isatty()
        found = localise(
            (bundle, *more),
            images,
            data=folder,
            least_iou=RIGHT_IOU if least_iou is None else least_iou,
            on_image=show,
            finish=finish,
            watch=_Notes(watch) if prints else watch,
            **options,
        )
    if folder is None and as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    return 1 if folder is None and any(image.unread for image in found.images) else 0


class _Notes(Watcher):
    """Passes on notes, and no progress."""

    def __init__(self, watch: Watcher) -> None:
        self.note = watch.note  # type: ignore[method-assign]


def _check_usage(
    images: tuple[str, ...],
    folder: str | None,
    *,
    out: str | None,
    least_iou: float | None,
    options: dict[str, Any],
) -> None:
    if folder is None:
        if not images:
            raise click.UsageError("Name images after the bundle, or `--data DIR` to test it on.")
        if options["limit"] is not None or least_iou is not None or options["split"] != "val":
            raise click.UsageError("`--split`, `--limit` and `--iou` go with `--data DIR`.")
        if options["resume"] or options["procs"] or options["gpus"]:
            raise click.UsageError("`--resume`, `--procs` and `--gpus` go with `--data DIR`.")
    elif images:
        raise click.UsageError(
            f"`--data` takes no images: {shown(images[0])} is one too many. "
            "Name further nets by `--with BUNDLE`."
        )
    elif out is not None or options["label"] is not None:
        raise click.UsageError("`-o` and `--class` go with images, not with `--data`.")
    check_computing(options)
    if not options["classifiers"]:
        for name in ("crops", "stride", "classes", "match"):
            if options[name] is not None:
                raise click.UsageError(f"`--{name}` goes with `--classifier BUNDLE`.")
    if options["literal"] and options["match"] is None:
        raise click.UsageError("`--literal` requires `--match T`, in pixels.")
    if options["label"] is not None and options["classes"] is not None:
        raise click.UsageError("Give `--class` or `--classes`, not both.")
    if out is not None:
        check_targets(out, images, kind="picture", option="-o")


def _draw(image: "LocalisedImage", target: str) -> None:
    from vggspec.base.files import replacing_file

    picture = image.picture()
    with replacing_file(target) as file:
        picture.save(file, format="PNG")


def _print_boxes(image: "LocalisedImage") -> None:
    rows = [("  left", "top", "right", "bottom", "", "")]
    for each in image.boxes:
        sides = ["-"] * 4 if each.box is None else [f"{side:.1f}" for side in each.box]
        posterior = "" if each.posterior is None else f"{each.posterior:.2%}"
        label = "" if each.label is None else shown(image.labels[each.label])
        rows.append((f"  {sides[0]}", sides[1], sides[2], sides[3], posterior, label))
    print_text(shown(image.file))
    print_table(rows, right=range(5))


def _print_errors(found: "Localisation", tally: "LocalisationTally") -> None:
    """The classes with the largest errors, then all images by each way of counting."""
    from vggspec.studies.evaluation.percents import with_standard_error

    by_error = sorted(tally.by_class.items(), key=lambda each: (-each[1].error, each[0]))
    rows = [("class", "images", "error")]
    rows += [
        (shown(found.labels[i]), str(each.answers), with_standard_error(each.error, each.answers))
        for i, each in sorted(by_error[:CLASSES_SHOWN])
    ]
    print_table(rows, right=(1, 2))
    if len(by_error) > CLASSES_SHOWN:
        click.echo(f"and {len(by_error) - CLASSES_SHOWN} with smaller errors")
    counts = [("class given", tally.given)]
    if found.classifiers:
        counts = [("top-1", tally.top1), (f"top-{found.top}", tally.top5), *counts]
    errors = [with_standard_error(each.error, each.answers) for _, each in counts]
    scales = ", ".join(map(str, found.protocol.scales))
    click.echo()
    print_table(
        [
            ("Q", "evaluation", *(f"{name} error" for name, _ in counts)),
            (scales, found.way, *errors),
        ],
        right=range(2, 5),
        optional=(1,),
    )
    click.echo(f"{count(tally.images, 'image')} of {count(len(tally.by_class), 'class')}")
