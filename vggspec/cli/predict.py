"""``vggspec predict``: the classes of images, by a bundle and the paper's test protocol."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from vggspec.base.recipe import MAX_SCALE, MAX_SCALES
from vggspec.cli.targets import check_spared

if TYPE_CHECKING:
    from vggspec.base.diagnostic import VggspecError
    from vggspec.base.recipe import Resize
    from vggspec.runtime.predictor import Prediction
    from vggspec.runtime.session import Device

BAR = 20
MANY = 10  # images from which progress is shown


def read_scales(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """``256,384`` as numbers."""
    if value is None:
        return None

    words = value.split(",")
    numbers = [int(word) for word in words if re.fullmatch(r"\s*[0-9]{1,9}\s*", word)]
    if len(numbers) < len(words) or not all(1 <= number <= MAX_SCALE for number in numbers):
        raise click.BadParameter(f"{value!r} is not sizes in pixels such as 256,384,512.")
    if len(numbers) > MAX_SCALES:
        raise click.BadParameter(f"{len(numbers)} sizes are more than {MAX_SCALES}.")
    return tuple(numbers)


scales_option = click.option(
    "--scales",
    callback=read_scales,
    metavar="Q,...",
    help="Smallest sides to rescale the image to, in pixels; posteriors are averaged over them.  "
    "[default: as the spec's `test:` says]",
)

resize_option = click.option(
    "--resize",
    type=click.Choice(["rounded", "torchvision"], case_sensitive=False),
    help="How long the longer side becomes, and where the central crop begins: to the nearest "
    "pixel, or as torchvision's Resize and CenterCrop have it.  [default: as the spec's `test:` "
    "says]",
)


@click.command(
    "predict",
    epilog="""\b
Examples:
  vggspec predict D photo.jpg
  vggspec predict D photos/*.jpg --scales 256,384,512 --json
  vggspec predict D photo.jpg --heatmap heat.png
  vggspec predict D photo.jpg --heatmap heat.png --class "king penguin"
  vggspec predict D photos/*.jpg --heatmap "heat/{name}.png" --classes 3""",
)
@click.argument("bundle")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@scales_option
@resize_option
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Average with the mirror image.  [default: as the spec's `test:` says]",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=5,
    metavar="K",
    help="How many classes to tell.  [default: 5]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--heatmap",
    metavar="FILE",
    help="Draw where the net sees the class; `{name}` stands for the image's name.",
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
    help="Draw that many of the likeliest classes, each in its own colour.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    help="Where the net runs; `tensorrt` loads a bundle's engine, which is native code.  "
    "[default: a CUDA device if there is one]",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all cores]"
)
def command(
    bundle: str,
    images: tuple[str, ...],
    *,
    scales: tuple[int, ...] | None,
    resize: "Resize | None",
    flip: bool | None,
    top: int,
    as_json: bool,
    heatmap: str | None,
    label: str | None,
    classes: int | None,
    device: str,
    threads: int | None,
) -> int:
    """Classify images: rescaled to each Q, with their mirror images, averaged as in the paper.

    An image that cannot be read is reported and the others are still classified; the exit code is
    then 1.
    """
    _check_usage(images, heatmap, label, classes)
    from vggspec.base.catalogue.artefacts import NoMapInBundle
    from vggspec.base.diagnostic import VggspecError, report
    from vggspec.runtime.predictor import Predictor

    results: list[dict[str, object]] = []
    num_bad = 0
    with Predictor(bundle, device=cast("Device", device), threads=threads) as predictor:
        if heatmap and not predictor.gives_maps:
            raise VggspecError(report(NoMapInBundle(), path=bundle))
        index = None if label is None else class_index(predictor.labels, label)
        with _progress(images, as_json=as_json) as names:
            for name in names:
                try:
                    prediction = predictor(name, scales, flip, resize)
                    if heatmap:
                        _draw(name, prediction, target_of(heatmap, name), index, classes)
                except VggspecError as error:
                    num_bad += 1
                    complain(error)
                    continue
                if as_json:
                    results.append(_as_dict(name, prediction, top))
                else:
                    click.echo(_as_text(name, prediction, top))
    if as_json:
        click.echo(json.dumps(results, indent=2))
    return 1 if num_bad else 0


def _check_usage(
    images: tuple[str, ...], heatmap: str | None, label: str | None, classes: int | None
) -> None:
    if heatmap is None:
        if label is not None or classes is not None:
            raise click.UsageError("`--class` and `--classes` say what `--heatmap FILE` draws.")
        return
    if label is not None and classes is not None:
        raise click.UsageError("Give `--class` or `--classes`, not both.")
    check_targets(heatmap, images, kind="heat map", option="--heatmap")


def check_targets(pattern: str, images: tuple[str, ...], *, kind: str, option: str) -> None:
    """Make sure that a picture is written for each image, each elsewhere, and over no image.

    Raises:
        click.UsageError: ``pattern``, given by ``option``, names no PNG file, the same one for two
            images, or one of the images.
    """
    if not pattern.lower().endswith(".png"):
        raise click.UsageError(f"A {kind} is a PNG file; give a name that ends in .png.")
    if len(images) > 1 and "{name}" not in pattern:
        raise click.UsageError(
            f"{len(images)} images want as many {kind}s; write `{{name}}` in the file's name."
        )
    targets = [target_of(pattern, name) for name in images]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise click.UsageError(f"Two images want their {kind} to be {twice}.")
    check_spared(targets, images, option=option)


def target_of(pattern: str, name: str) -> str:
    """The file for what is drawn of an image."""
    return pattern.replace("{name}", Path(name).stem)


def class_index(labels: tuple[str, ...], wanted: str) -> int:
    """The class of that label, of one of the names in it, or of that index."""
    from vggspec.base.wording import nearest

    known: dict[str, int] = {}
    for index, label in enumerate(labels):
        for name in (label, *label.split(",")):
            known.setdefault(name.strip().casefold(), index)
    found = known.get(wanted.strip().casefold())
    if found is not None:
        return found
    if wanted.isdecimal() and int(wanted) < len(labels):
        return int(wanted)
    like = nearest(wanted, tuple(known))
    more = f" Did you mean `{labels[known[like]]}`?" if like else ""
    raise click.BadParameter(f"the net has no class `{wanted}`.{more}", param_hint="--class")


@contextmanager
def _progress(images: tuple[str, ...], *, as_json: bool) -> Iterator[Iterable[str]]:
    """The images, with a bar on a terminal where nothing else would tell how far it is."""
    is_silent = as_json or not sys.stdout.isatty()
    if len(images) < MANY or not is_silent or not sys.stderr.isatty():
        yield images
        return
    with click.progressbar(images, file=sys.stderr, show_pos=True) as names:
        yield names


def _draw(
    name: str, prediction: "Prediction", target: str, label: int | None, classes: int | None
) -> None:
    from vggspec.base.files import replacing_file
    from vggspec.data.read import read_image
    from vggspec.runtime import heatmap

    # Read anew: in colour, even where the net saw it in gray.
    picture = heatmap.draw(read_image(name), prediction, label=label, classes=classes)
    with replacing_file(target) as file:
        picture.save(file, format="PNG")


def complain(error: "VggspecError") -> None:
    """Tell what is wrong with an image, and go on."""
    from vggspec.base.render import as_text
    from vggspec.cli.terminal import use_color

    color = use_color(sys.stderr)
    click.echo(as_text(error.reports, color=color), err=True, color=color)


def _as_dict(name: str, prediction: "Prediction", top: int) -> dict[str, object]:
    value = "posterior" if prediction.kind == "posteriors" else "score"
    return {
        "file": name,
        "scales": prediction.scales,
        "flip": prediction.flip,
        "top": [
            {
                "label": prediction.labels[i],
                "index": i,
                value: float(prediction.posteriors[i]),
            }
            for i in prediction.ranking(top)
        ],
    }


def _as_text(name: str, prediction: "Prediction", top: int) -> str:
    from vggspec.base.render import shown

    if prediction.kind == "scores":
        lines = [f"{shown(name)}  (class scores: the net has no soft-max)"]
        lines += [f"{value:10.4g}  {shown(label)}" for label, value in prediction.top(top)]
    else:
        lines = [shown(name)]
        lines += [
            f"{value:9.2%}  {_bar(value):{BAR}}  {shown(label)}"
            for label, value in prediction.top(top)
        ]
    return "\n".join(lines)


def _bar(share: float) -> str:
    """A bar of up to ``BAR`` columns, to an eighth of one where the output can show it."""
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return "#" * round(share * BAR)
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()
