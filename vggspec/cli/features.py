"""``vggspec features``: descriptors of images, written to a file."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.computing import computing_of, computing_options, go_through
from vggspec.cli.options import read_scales, resize_option
from vggspec.cli.table import memory
from vggspec.cli.terminal import say, say_written

if TYPE_CHECKING:
    from vggspec.base.recipe import Resize, TestProtocol
    from vggspec.bundle.manifest import Bundle, Manifest
    from vggspec.data.classed import Images
    from vggspec.studies.features.describing import Describing
    from vggspec.studies.features.descriptors import Combination, Described, OverScales
    from vggspec.studies.features.file import FeaturesWriter
    from vggspec.studies.tasks.journal import Journal
    from vggspec.studies.tasks.work import Effort

IMAGES = "images"
"""What the split is called of images that were named one by one."""


@dataclass(frozen=True, slots=True)
class Named:
    """Images that were named one by one."""

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path."""
        return self.paths[index]

    def read(self, index: int) -> bytes:
        """The content of the file.

        Raises:
            BadImageError: it cannot be read.
        """
        from vggspec.base.opening import read_file
        from vggspec.base.wording import reason
        from vggspec.data.decode import BadImageError
        from vggspec.data.read import MAX_FILE_BYTES

        try:
            return read_file(self.paths[index], MAX_FILE_BYTES)
        except OSError as error:
            raise BadImageError(reason(error)) from error


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
    help="Class folders or shards, or images with annotations as VOC or COCO have them.",
)
@click.option(
    "--images",
    "pictures",
    multiple=True,
    metavar="PATH",
    help="Instead: an image, or a folder of images, of no class; may be repeated.",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    default="features.safetensors",
    help="The file.  [default: features.safetensors]",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Only this split.  [default: train and val where there are such, else all images]",
)
@click.option(
    "--layer",
    metavar="LAYER",
    help="The layer whose numbers are taken, as `vggspec show` lists them.  [default: that before "
    "the last conv or FC]",
)
@click.option(
    "--scales",
    callback=read_scales,
    metavar="Q,...",
    help="Smallest sides to rescale the image to, in pixels.  [default: as the spec's `test:` "
    "says]",
)
@resize_option
@click.option(
    "--combine",
    type=click.Choice(["average", "stack"]),
    default="average",
    help="What is done with several scales; nets are always stacked.  [default: average]",
)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Average with the mirror image.  [default: as the spec's `test:` says]",
)
@click.option(
    "--normalise/--no-normalise",
    default=True,
    help="Give each net's descriptor, and the whole, the length 1.  [default: --normalise]",
)
@computing_options
def command(
    bundles: tuple[str, ...],
    *,
    folder: str | None,
    pictures: tuple[str, ...],
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
    """Write descriptors of images: what a layer gives, averaged over space and the mirror image.

    A bundle that classifies is compiled anew without its last FC, densely. An image is rescaled to
    each Q; scales are averaged or stacked, nets stacked. `vggspec svm` fits an SVM on the file.
    Images that cannot be read are left out and named; more than 1 in 100 are an error.
    """
    if (folder is None) != bool(pictures):
        raise click.UsageError("Give `--data DIR` or `--images PATH`, one of them.")
    if split is not None and folder is None:
        raise click.UsageError("`--split` says which part of `--data DIR` is meant.")
    _check_target(out)
    from vggspec.bundle.manifest import open_bundle
    from vggspec.studies.features.describing import Describing
    from vggspec.studies.features.descriptors import Combination, width

    computing = computing_of(running)
    opened = [open_bundle(each, deep=True) for each in bundles]
    parts = _named(pictures) if folder is None else _parts(folder, split)
    over_scales = cast("OverScales", combine)
    combination = Combination(over_scales=over_scales, normalise=normalise)
    with contextlib.ExitStack() as stack:
        asked = [_up_to(each, layer, stack) for each in opened]
        protocols = [_protocol(each.manifest, scales, resize=resize, flip=flip) for each in asked]
        for bundle, protocol, given in zip(asked, protocols, opened, strict=True):
            _check_scales(bundle.manifest, protocol, str(given.path))
        numbers = width(
            [each.manifest.result.channels for each in asked],
            [len(each.scales) for each in protocols],
            over_scales,
        )
        settings = _settings([each.manifest for each in asked], protocols, combination)
        for line in _in_words(settings):
            say("net", line)
        images = sum(len(part.images) for part in parts)
        size = memory(4 * numbers * images)
        say("file", f"{out}, {count(images, 'image')} × {numbers} numbers, about {size}")
        task = Describing(
            nets=tuple(zip(asked, protocols, strict=True)),
            combination=combination,
            splits=tuple(part.images for part in parts),
            device=computing.device,
            threads=computing.threads,
            batch_pixels=computing.batch_pixels,
        )
        _write(out, parts, task, numbers, settings, computing, folder)
    say_written(out)


def _check_target(out: str) -> None:
    from vggspec.base.catalogue.artefacts import InTheWay
    from vggspec.base.diagnostic import VggspecError, report

    if Path(out).is_dir():
        raise VggspecError(report(InTheWay(what="a folder"), path=out))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A split of the file that is written."""

    split: str
    images: "Images"
    labels: Any = None
    classes: tuple[str, ...] | None = None


def _named(pictures: Sequence[str]) -> list[_Part]:
    from vggspec.cli.progress import shown as watching
    from vggspec.data.pictures import named_images

    with watching() as watch:
        paths = named_images(pictures, watch)
    if not paths:
        raise click.BadParameter("there are no images in it.", param_hint="--images")
    return [_Part(split=IMAGES, images=Named(tuple(paths)))]


def _parts(folder: str, split: str | None) -> list[_Part]:
    from vggspec.cli.pacing import pacing
    from vggspec.data.classed import open_classed

    found = open_classed(Path(folder), split, pacing)
    for each in found:
        for note in each.notes:
            say("note", note)
        _say_left_out(f"{each.split}: annotations that cannot be true", each.left_out)
    return [
        _Part(split=each.split, images=each.images, labels=each.labels, classes=each.classes)
        for each in found
    ]


def _up_to(bundle: "Bundle", layer: str | None, stack: contextlib.ExitStack) -> "Bundle":
    """The bundle whose output is the layer: itself, where it was compiled so."""
    from vggspec.base.catalogue.fusion import HoldsProtocol
    from vggspec.base.diagnostic import VggspecError, report
    from vggspec.compiler.bundles.net import lowered_of
    from vggspec.compiler.bundles.variant import Changes, varied
    from vggspec.compiler.passes.keep_up_to import before_last

    manifest = bundle.manifest
    if manifest.members:
        raise VggspecError(report(HoldsProtocol(), path=str(bundle.path)))
    if manifest.layer is not None and layer in (None, manifest.layer):
        return bundle
    wanted = layer or before_last(lowered_of(bundle).network)
    found = stack.enter_context(varied(bundle, Changes(layer=wanted, form="dense")))
    if manifest.engine is not None:
        say("note", f"{bundle.path} is compiled anew in fp32 for that, not as its engine was built")
    return found


def _protocol(
    manifest: "Manifest",
    scales: tuple[int, ...] | None,
    *,
    resize: "Resize | None",
    flip: bool | None,
) -> "TestProtocol":
    return replace(
        manifest.test,
        scales=manifest.test.scales if scales is None else scales,
        dense=True,
        crops=None,
        flip=manifest.test.flip if flip is None else flip,
        resize=resize or manifest.test.resize,
    )


def _check_scales(manifest: "Manifest", protocol: "TestProtocol", path: str) -> None:
    from vggspec.base.catalogue.evaluating import ScaleBelowWindow
    from vggspec.base.diagnostic import VggspecError, report

    least = manifest.input.size
    for scale in protocol.scales:
        if scale < min(least):
            raise VggspecError(report(ScaleBelowWindow(scale=scale, window=least), path=path))


def _settings(
    manifests: "Sequence[Manifest]", protocols: "Sequence[TestProtocol]", combination: "Combination"
) -> dict[str, Any]:
    """How the descriptors are made, for whoever reads the file."""
    return {
        "nets": [
            {
                "net": manifest.net,
                "layer": manifest.layer,
                "numbers": manifest.result.channels,
                "scales": list(protocol.scales),
                "flip": protocol.flip,
                "resize": protocol.resize,
                "sha256": _digest(manifest),
            }
            for manifest, protocol in zip(manifests, protocols, strict=True)
        ],
        "combine": combination.over_scales,
        "normalise": combination.normalise,
    }


def _digest(manifest: "Manifest") -> str:
    """Of the weights; of the model where they are in it."""
    from vggspec.bundle.manifest import WEIGHTS

    digests = {entry.path: entry.sha256 for entry in manifest.files}
    return digests.get(WEIGHTS, digests[manifest.model])


def _in_words(settings: dict[str, Any]) -> list[str]:
    lines = []
    for net in settings["nets"]:
        scales = ", ".join(map(str, net["scales"]))
        how = {"average": "averaged", "stack": "stacked"}[settings["combine"]]
        many = f", {how}" if len(net["scales"]) > 1 else ""
        flip = ", with the mirror image" if net["flip"] else ""
        lines.append(f"{net['net']} up to {net['layer']}, Q {scales}{many}{flip}")
    return lines


def _write(
    out: str,
    parts: "Sequence[_Part]",
    task: "Describing",
    numbers: int,
    settings: Mapping[str, Any],
    computing: "Effort",
    folder: str | None,
) -> None:
    """Write the file; what there is of it is kept beside it until it is whole."""
    from vggspec.base.files import plain_target, refusals
    from vggspec.studies.features.file import part_of, writing
    from vggspec.studies.tasks.journal import journal

    digest = task.digest()
    sizes = {part.split: len(part.images) for part in parts}
    with plain_target(out) as target, journal(task, part_of(target, digest, "jsonl")) as kept:
        part = part_of(target, digest, "part")
        try:
            with writing(target, sizes, numbers, parts[0].classes, settings, part=part) as writer:
                taking = _Taking(parts, task, writer, kept, folder)
                go_through(
                    task,
                    kept,
                    computing,
                    taking.take,
                    doing="describing",
                    take_again=taking.take_again,
                    in_order=True,
                )
            kept.clear()
        finally:
            if kept.is_empty:  # there is nothing to go on with
                with refusals(part):
                    part.unlink(missing_ok=True)
    for each in parts:
        _say_left_out(f"{each.split}: images that cannot be read", taking.bad[each.split])


class _Taking:
    """Takes the images of one split after the other, and puts them into the file."""

    def __init__(
        self,
        parts: "Sequence[_Part]",
        task: "Describing",
        writer: "FeaturesWriter",
        kept: "Journal[Described]",
        folder: str | None,
    ) -> None:
        self._parts, self._task, self._writer, self._kept = parts, task, writer, kept
        self._folder = folder
        self._next = 0
        self.bad: dict[str, dict[str, str]] = {part.split: {} for part in parts}
        """The images of each split that cannot be read, and why."""

    def take(self, one: "Described") -> None:
        """Write an image's descriptor, or leave the image out.

        Raises:
            VggspecError: too many images cannot be read.
        """
        part, name, label = self._begin(one)
        if one.descriptor is None:
            self._leave_out(part, name, one.unread or "")
        else:
            self._writer.add(name, one.descriptor, label)
        self._next += 1

    def take_again(self, one: "Described") -> bool:
        """The same with an image of an earlier time; False where its descriptor is not there."""
        if one.index != self._next:
            return False
        part, name, label = self._begin(one)
        if one.checksum is None:
            self._leave_out(part, name, one.unread or "")
        elif not self._writer.add_again(name, one.checksum, label):
            return False
        self._next += 1
        return True

    def _begin(self, one: "Described") -> tuple[_Part, str, Any]:
        """The part that an image is of, its name and label."""
        number, index = self._task.place(one.index)
        part = self._parts[number]
        if part.split not in self._writer.rows:
            self._writer.begin(part.split)
        label = None if part.labels is None else part.labels[index]
        return part, part.images.name(index), label

    def _leave_out(self, part: _Part, name: str, why: str) -> None:
        from vggspec.base.catalogue.data import TooManyBadImages
        from vggspec.base.diagnostic import VggspecError, report
        from vggspec.data.split import MAX_BAD_SHARE

        bad, total = self.bad[part.split], len(part.images)
        bad[name] = why
        self._writer.leave_out()
        if len(bad) > MAX_BAD_SHARE * total:
            self._kept.clear()  # with these images it will never be whole
            first = tuple(f"{name}: {why}" for name, why in list(bad.items())[:5])
            what = TooManyBadImages(bad=len(bad), total=total, first=first)
            raise VggspecError(report(what, path=self._folder))


def _say_left_out(what: str, reasons: Mapping[str, str]) -> None:
    if reasons:
        lines = "".join(f"\n  {shown(name)}: {shown(why)}" for name, why in reasons.items())
        click.echo(f"{what}, left out: {len(reasons)}{lines}", err=True)
