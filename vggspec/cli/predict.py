"""``vggspec predict``: the classes of images, by a bundle and the paper's test protocol."""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from vggspec.cli.computing import DEVICES, THREADS
from vggspec.cli.pictures import check_targets, class_index, show_error, target_of
from vggspec.cli.predictions import STDOUT, as_array, as_csv, as_lines, as_text
from vggspec.cli.protocol_options import resize_option, scales_option
from vggspec.cli.targets import check_spared
from vggspec.cli.terminal import say_written

if TYPE_CHECKING:
    from vggspec.base.diagnostic import VggspecError
    from vggspec.runtime.predictor import Prediction


#: What each option draws.
KINDS = {"--heatmap": "heat map", "--mask": "label map", "--overlay": "picture"}


@click.command(
    "predict",
    epilog="""\b
Examples:
  vggspec predict D photo.jpg
  vggspec predict D photos --scales 256,384,512 --json
  vggspec predict D photos --csv photos.csv --top 1
  vggspec predict D photo.jpg --heatmap heat.png --class "king penguin"
  vggspec predict D photos --heatmap "heat/{name}.png" --classes 3
  vggspec predict fcn8s photo.jpg --mask mask.png --overlay overlay.png""",
)
@click.argument("bundle")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@scales_option
@resize_option
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Average with the mirror image.  [default: the spec's `test:` section]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=5,
    metavar="K",
    help="How many of the likeliest classes to print, or of those with the most pixels.  "
    "[default: 5]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--csv", metavar="FILE", help="Write CSV, a row for each class; `-` is stdout.")
@click.option("--jsonl", metavar="FILE", help="Write JSON lines, one an image; `-` is stdout.")
@click.option(
    "--heatmap",
    metavar="FILE",
    help="Draw where the net sees a class; `{name}` is the image's name.",
)
@click.option(
    "--class",
    "label",
    metavar="NAME",
    help="The class to draw, by label or index.  [default: the likeliest]",
)
@click.option(
    "--classes",
    type=click.IntRange(1, 7),
    metavar="K",
    help="Draw the K likeliest classes, each in its own colour.",
)
@click.option(
    "--mask",
    metavar="FILE",
    help="Write the class of each pixel as PNG, for a net that labels pixels.",
)
@click.option(
    "--overlay", metavar="FILE", help="Draw the classes of the pixels over the image, with names."
)
@click.option(
    "--tile",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Compute labels of pixels in tiles of that many pixels each way.  [default: the whole "
    "image at once; from 2 million pixels in tiles of 1024]",
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    help="The device that runs the net; `tensorrt` loads the engine of a bundle, which is native "
    "code.  [default: a CUDA device if there is one; on a CPU OpenVINO where it was measured "
    "ahead]",
)
@click.option("--threads", type=THREADS, metavar="N", help="CPU threads.  [default: all cores]")
def command(
    bundle: str,
    images: tuple[str, ...],
    *,
    top: int,
    as_json: bool,
    csv: str | None,
    jsonl: str | None,
    heatmap: str | None,
    label: str | None,
    classes: int | None,
    mask: str | None,
    overlay: str | None,
    device: Any,
    threads: int | None,
    **protocol: Any,
) -> int:
    """Classify images, by the paper's test protocol: scales and mirror images, averaged.

    A net whose spec ends in `soft-max(map)` classifies each pixel.

    IMAGE is a file, or a folder whose images are read with those of its subfolders. An image that
    cannot be read is reported, and the others are classified; the exit code is then 1.
    """
    _check_usage(heatmap, label, classes, as_json=as_json, files=(csv, jsonl))
    from vggspec.base.catalogue.artefacts import NoClasses, NoMapInBundle
    from vggspec.base.catalogue.label_maps import LabelsPixels, NoLabelMap
    from vggspec.base.diagnostic import VggspecError, report
    from vggspec.base.watcher import SILENT
    from vggspec.cli.progress import shown as watching
    from vggspec.data.pictures import named_images
    from vggspec.runtime.predicting import predict_each
    from vggspec.runtime.predictor import Predictor

    num_bad = 0

    def complain(error: "VggspecError") -> None:
        nonlocal num_bad
        num_bad += 1
        show_error(error)

    with watching() as watch:
        names = named_images(images, watch)
    if not names:
        raise click.BadParameter("there are no images in it.", param_hint="IMAGE")
    check_spared([csv] if csv else [], [bundle, *names], option="--csv")
    check_spared([jsonl] if jsonl else [], [bundle, *names], option="--jsonl")
    pictures = {"--heatmap": heatmap, "--mask": mask, "--overlay": overlay}
    for option, pattern in pictures.items():
        if pattern:
            check_targets(pattern, names, kind=KINDS[option], option=option)
    with contextlib.ExitStack() as stack:
        predictor = stack.enter_context(Predictor(bundle, device=device, threads=threads))
        predictor.check()
        if predictor.kind == "boxes":
            raise VggspecError(report(NoClasses(output=predictor.kind), path=bundle))
        if heatmap and predictor.kind == "posterior_map":
            raise VggspecError(report(LabelsPixels(required="a class score map"), path=bundle))
        if (mask or overlay) and predictor.kind != "posterior_map":
            raise VggspecError(report(NoLabelMap(output=predictor.manifest.gives), path=bundle))
        if heatmap and not predictor.gives_maps:
            raise VggspecError(report(NoMapInBundle(), path=bundle))
        index = None if label is None else class_index(predictor.labels, label)
        writers = [stack.enter_context(as_csv(csv, top))] if csv else []
        writers += [stack.enter_context(as_lines(jsonl, top))] if jsonl else []
        writers += [stack.enter_context(as_array(top))] if as_json else []
        # Results that appear on a terminal need no progress beside them.
        prints = not writers or STDOUT in (csv, jsonl)
        is_shown = not (prints and sys.stdout.isatty())
        watch = stack.enter_context(watching()) if is_shown else SILENT
        for prediction in predict_each(
            predictor, names, watch=watch, on_error=complain, **protocol
        ):
            try:
                if heatmap:
                    _draw(prediction, target_of(heatmap, str(prediction.file)), index, classes)
                if mask:
                    _write_mask(prediction, target_of(mask, str(prediction.file)))
                if overlay:
                    _draw_overlay(prediction, target_of(overlay, str(prediction.file)))
            except VggspecError as error:
                complain(error)
                continue
            for write in writers or [as_text(top)]:
                write(prediction)
    if not as_json and STDOUT not in (csv, jsonl):
        for file in filter(None, (csv, jsonl)):
            say_written(file)
    return 1 if num_bad else 0


def _check_usage(
    heatmap: str | None,
    label: str | None,
    classes: int | None,
    *,
    as_json: bool,
    files: tuple[str | None, str | None],
) -> None:
    if heatmap is None and (label is not None or classes is not None):
        raise click.UsageError("`--class` and `--classes` say what `--heatmap FILE` draws.")
    if label is not None and classes is not None:
        raise click.UsageError("Give `--class` or `--classes`, not both.")
    if as_json + files.count(STDOUT) > 1:
        raise click.UsageError("`--json`, `--csv -` and `--jsonl -` all print to stdout; give one.")
    if files[0] is not None and files[0] == files[1]:
        raise click.UsageError("`--csv` and `--jsonl` name the same file.")


def _draw(prediction: "Prediction", target: str, label: int | None, classes: int | None) -> None:
    from vggspec.base.files import replacing_file
    from vggspec.data.read import read_image
    from vggspec.studies import heatmap

    # Read again in colour: the net may have seen it in gray.
    image = read_image(str(prediction.file))
    picture = heatmap.draw(image, prediction, label=label, classes=classes)
    with replacing_file(target) as file:
        picture.save(file, format="PNG")


def _write_mask(prediction: "Prediction", target: str) -> None:
    from vggspec.base.files import replacing_file
    from vggspec.studies.segmentation import label_picture

    assert prediction.label_map is not None
    with replacing_file(target) as file:
        label_picture.mask(prediction.label_map.labels).save(file, format="PNG")


def _draw_overlay(prediction: "Prediction", target: str) -> None:
    from vggspec.base.files import replacing_file
    from vggspec.data.read import read_image
    from vggspec.studies.segmentation import label_picture

    picture = label_picture.overlay(read_image(str(prediction.file)), prediction)
    with replacing_file(target) as file:
        picture.save(file, format="PNG")
