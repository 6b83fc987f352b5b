"""``vggspec features``: descriptors of images, written to a file."""

from typing import TYPE_CHECKING, Any, cast

import click

from vggspec.base.launched import is_other_rank
from vggspec.cli.computing import check_computing, computing_options
from vggspec.cli.progress import resumable
from vggspec.cli.protocol_options import read_scales, resize_option
from vggspec.cli.targets import check_spared
from vggspec.cli.terminal import say_written

if TYPE_CHECKING:
    from vggspec.base.recipe import Resize
    from vggspec.studies.features.descriptors import OverScales


@click.command(
    "features",
    epilog="""\b
Examples:
  vggspec features D --data caltech --scales 256,384,512 --combine stack
  vggspec features D E --data VOC2007 --split trainval -o trainval.safetensors
  vggspec features D --data flowers --layer conv4_3
  vggspec features D --data ILSVRC --gpus 4 --resume
  vggspec features D --images photos -o photos.safetensors""",
)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option(
    "--data",
    "folder",
    metavar="DIR",
    help="Class folders or shards, or images with VOC or COCO annotations.",
)
@click.option(
    "--images",
    multiple=True,
    metavar="PATH",
    help="Instead: an image, or a folder of images, without classes; may be repeated.",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    default="features.safetensors",
    help="The file to write.  [default: features.safetensors]",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Describe only this split.  [default: train and val if they exist, else all images]",
)
@click.option(
    "--layer",
    metavar="LAYER",
    help="The layer to describe, as `vggspec show` lists it.  [default: the one before the last "
    "conv or FC, or all that the spec's `outputs` names]",
)
@click.option(
    "--scales",
    callback=read_scales,
    metavar="Q,...",
    help="Smallest sides to rescale each image to, in pixels.  [default: the spec's `test:` "
    "section]",
)
@resize_option
@click.option(
    "--combine",
    type=click.Choice(["average", "stack"]),
    default="average",
    help="How to combine several scales; several nets are always stacked.  [default: average]",
)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Average with the mirror image.  [default: the spec's `test:` section]",
)
@click.option(
    "--normalise/--no-normalise",
    default=True,
    help="Give each net's descriptor, and the whole, length 1.  [default: --normalise]",
)
@computing_options
def command(
    bundles: tuple[str, ...],
    *,
    folder: str | None,
    images: tuple[str, ...],
    out: str,
    split: str | None,
    layer: str | None,
    scales: tuple[int, ...] | None,
    resize: "Resize | None",
    combine: str,
    flip: bool | None,
    normalise: bool,
    **running: Any,
) -> None:
    """Write descriptors of images: the activations of a layer, averaged over space and over the
    image and its mirror image.

    A bundle that classifies is recompiled without its last FC and applied densely. Each image is
    rescaled to each Q; scales are averaged or stacked, nets are stacked. `vggspec svm` fits an SVM
    on the file. Unreadable images are left out and named; more than 1 in 100 are an error.
    """
    if (folder is None) != bool(images):
        raise click.UsageError("Give either `--data DIR` or `--images PATH`.")
    if split is not None and folder is None:
        raise click.UsageError("`--split` selects a part of `--data DIR`.")
    check_computing(running)
    from vggspec.data.pictures import named_images
    from vggspec.studies.features.extraction import features
    from vggspec.studies.features.file import is_features

    with resumable() as watch:
        paths = named_images(images, watch)
        if images and not paths:
            raise click.BadParameter("there are no images in it.", param_hint="--images")
        data = () if is_features(out) else (folder, *paths)  # an earlier one may be in the folder
        check_spared([out], [*bundles, *data])
        features(
            bundles,
            folder,
            images=paths,
            out=out,
            split=split,
            layer=layer,
            scales=scales,
            resize=resize,
            flip=flip,
            combine=cast("OverScales", combine),
            normalise=normalise,
            **running,
            watch=watch,
        )
    if not is_other_rank():
        say_written(out)
