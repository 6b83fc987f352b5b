"""The descriptors of a data set or of named images, from bundles to a file (appendix B)."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.arguments import (
    Device,
    StrPath,
    check_choice,
    check_flag,
    check_name,
    one_or_several,
    plain,
)
from vggspec.base.catalogue.artefacts import InTheWay
from vggspec.base.catalogue.distances import ComparesPictures
from vggspec.base.catalogue.evaluating import NoImages, ScaleBelowWindow
from vggspec.base.catalogue.fusion import HoldsProtocol
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.files import plain_target, refusals
from vggspec.base.quantities import memory
from vggspec.base.recipe import Resize, TestProtocol, as_scales
from vggspec.base.render import shown
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count
from vggspec.bundle.manifest import WEIGHTS, Manifest
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.compiler.bundling.net import lowered_of
from vggspec.compiler.bundling.variant import Changes, only_as_it_is, varied
from vggspec.compiler.passes.keep_up_to import before_last
from vggspec.data.classed import Images, open_classed
from vggspec.data.left_out import LeftOut
from vggspec.data.pictures import named_images
from vggspec.studies.features.descriptors import Combination, Described, OverScales, width
from vggspec.studies.features.file import (
    FeaturesFile,
    FeaturesWriter,
    open_features,
    part_of,
    writing,
)
from vggspec.studies.features.task import Describing
from vggspec.studies.image_files import ImageFiles
from vggspec.studies.tasks.journal import Journal, journal
from vggspec.studies.tasks.work import Effort, work_through

IMAGES = "images"
"""The name of the split of images that are named one by one."""

Labels = NDArray[np.int64] | NDArray[np.uint8]
Paths = StrPath | Iterable[StrPath]


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFeatures:
    """What a file of features contains."""

    path: str
    numbers: int
    """D, the length of each descriptor."""

    images: Mapping[str, int]
    """How many descriptors each split has."""

    left_out: Mapping[str, Mapping[str, str]]
    """The unreadable images of each split, each with the reason."""

    settings: Mapping[str, Any]
    """How the descriptors were made."""

    def open(self) -> FeaturesFile:
        """The file, opened; it maps the descriptors and reads none.

        Raises:
            VggspecError: the file cannot be opened.
        """
        return open_features(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """A split of the file."""

    name: str
    images: Images
    labels: Labels | None = None
    classes: tuple[str, ...] | None = None


def features(
    bundles: Paths,
    data: str | os.PathLike[str] | None = None,
    *,
    images: Paths = (),
    out: str | os.PathLike[str] = "features.safetensors",
    split: str | None = None,
    layer: str | None = None,
    scales: int | Iterable[int] | None = None,
    resize: Resize | None = None,
    flip: bool | None = None,
    combine: OverScales = "average",
    normalise: bool = True,
    device: Device = "auto",
    procs: int | None = None,
    gpus: int | None = None,
    threads: int | None = None,
    batch_pixels: int | None = None,
    resume: bool = False,
    watch: Watcher = SILENT,
) -> WrittenFeatures:
    """Write descriptors of images: the activations of a layer, averaged over space and over the
    image and its mirror image.

    A bundle that classifies is recompiled up to the layer before its last conv or FC, and applied
    densely. Of a net whose spec names several layers as its outputs, all are concatenated.
    Descriptors of several nets are concatenated. Unreadable images are left out; more than
    1 in 100 of a split are an error.

    Args:
        bundles: The bundle, or several.
        data: A folder with class folders or shards, or with VOC or COCO annotations.
        images: Instead of ``data``: an image, or a folder of images, without classes; or several.
        out: The file to write. Until it is complete, it is hidden beside its path, for
            ``resume``.
        split: The only split to describe. None describes ``train`` and ``val``, or all images.
        layer: The layer to describe. None is the one before the last conv or FC, or all that the
            spec names as outputs.
        scales: Each Q, in pixels. None is the spec's ``test:`` section.
        resize: How the longer side is rounded. None is the spec's ``test:`` section.
        flip: Whether to average with the mirror image. None is the spec's ``test:`` section.
        combine: Whether to average or to concatenate the scales.
        normalise: Whether each net's descriptor, and the whole, has length 1.
        device: Where the nets run: ``auto``, ``cpu``, ``cuda``, ``tensorrt`` or ``openvino``.
        procs: How many processes share the images.
        gpus: The same, each with a GPU of its own.
        threads: CPU threads of each process.
        batch_pixels: The largest batch; one image always fits.
        resume: Whether to resume an interrupted run with the same arguments.
        watch: Receives the settings, the progress, and which images are left out.

    Raises:
        ArgumentError: both ``data`` and ``images`` are given, or neither; ``procs`` and ``gpus``
            are both given; a number is out of range; or a word is none of the choices.
        TypeError: an argument is of the wrong type.
        VggspecError: a bundle, the data or the file cannot be used, or too many images are
            unreadable.
        MissingLibraryError: the device was requested by name and is not available.
    """
    check_choice("resize", resize, Resize)
    check_choice("combine", combine, OverScales)
    check_flag("flip", flip)
    check_flag("normalise", normalise)
    check_name("layer", layer)
    flip, normalise = plain(flip), plain(normalise)
    images = one_or_several("images", images)
    many = one_or_several("bundles", bundles, least=1)
    if (data is None) != bool(images):
        raise ArgumentError("give either `data` or `images`")
    effort = Effort.of(
        device=device,
        procs=procs,
        gpus=gpus,
        threads=threads,
        batch_pixels=batch_pixels,
        resume=resume,
    )
    watch = effort.watcher(watch)
    if effort.is_first and Path(out).is_dir():
        raise VggspecError(report(InTheWay(what="a folder"), path=os.fspath(out)))
    opened = [open_bundle(each, deep=True) for each in many]
    splits = _named(images, watch) if data is None else _splits(Path(data), split, watch)
    combination = Combination(over_scales=combine, normalise=normalise)
    with contextlib.ExitStack() as stack:
        nets = [_up_to(each, layer, stack, watch) for each in opened]
        test = {
            "scales": None if scales is None else as_scales(scales),
            "resize": resize,
            "flip": flip,
        }
        protocols = [_protocol(each.manifest, test) for each in nets]
        for net, protocol, given in zip(nets, protocols, opened, strict=True):
            _check_scales(net.manifest, protocol, str(given.path))
        numbers = width(
            [_numbers(each.manifest) for each in nets],
            [len(each.scales) for each in protocols],
            combine,
        )
        settings = _settings([each.manifest for each in nets], protocols, combination)
        for line in _in_words(settings):
            watch.about("net", line)
        total = sum(len(each.images) for each in splits)
        size = f"{count(total, 'image')} × {numbers} numbers, about {memory(4 * numbers * total)}"
        watch.about("file", f"{shown(os.fspath(out))}, {size}")
        task = Describing(
            nets=tuple(zip(nets, protocols, strict=True)),
            combination=combination,
            splits=tuple(each.images for each in splits),
            folder=os.fspath(data or "."),
            device=effort.device,
            threads=effort.threads,
            batch_pixels=effort.batch_pixels,
        )
        place = None if data is None else os.fspath(data)
        taking = _Taking(splits, task, place)
        _write(os.fspath(out), taking, numbers, settings, effort, watch)
    for name, left_out in taking.left_out.items():
        _note_left_out(watch, f"{name}: %s could not be read, left out:", left_out.reasons)
    return WrittenFeatures(
        path=os.fspath(out),
        numbers=numbers,
        images=taking.numbers,
        left_out={name: each.reasons for name, each in taking.left_out.items()},
        settings=settings,
    )


def _named(images: Sequence[str | os.PathLike[str]], watch: Watcher) -> list[_Split]:
    paths = named_images(images, watch)
    if not paths:
        what = NoImages(tried="the folders contain no images", has_classes=False)
        raise VggspecError(report(what, path=os.fspath(images[0])))
    return [_Split(name=IMAGES, images=ImageFiles.of(paths))]


def _splits(folder: Path, split: str | None, watch: Watcher) -> list[_Split]:
    found = open_classed(folder, split, watch)
    for each in found:
        for note in each.notes:
            watch.note(note)
        _note_left_out(watch, f"{each.split}: %s with bad annotations, left out:", each.left_out)
    return [
        _Split(name=each.split, images=each.images, labels=each.labels, classes=each.classes)
        for each in found
    ]


def _up_to(
    bundle: Bundle, layer: str | None, stack: contextlib.ExitStack, watch: Watcher
) -> Bundle:
    """The bundle compiled up to the layer: itself, if it was compiled so, or if its spec names the
    layers.
    """
    manifest = bundle.manifest
    if manifest.members:
        raise VggspecError(report(HoldsProtocol(), path=str(bundle.path)))
    if manifest.compares:
        raise VggspecError(report(ComparesPictures(), path=str(bundle.path)))
    if manifest.layer is not None and layer in (None, manifest.layer):
        return bundle
    has_layers = layer is None and manifest.result.kind == "activations"
    if has_layers and manifest.form == "dense":
        return bundle
    last = None if has_layers else layer or before_last(lowered_of(bundle).network)
    found = stack.enter_context(varied(bundle, Changes(layer=last, form="dense")))
    unused = only_as_it_is(manifest)
    if unused is not None:
        watch.note(f"{bundle.path} is recompiled in fp32 for this; {unused} is not used")
    return found


def _protocol(manifest: Manifest, test: Mapping[str, Any]) -> TestProtocol:
    given = {name: value for name, value in test.items() if value is not None}
    return replace(manifest.test, dense=True, crops=None, **given)


def _check_scales(manifest: Manifest, protocol: TestProtocol, path: str) -> None:
    least = manifest.input.size
    for scale in protocol.scales:
        if scale < min(least):
            what = ScaleBelowWindow(scale=scale, window=least, can_enlarge=False)
            raise VggspecError(report(what, path=path))


def _settings(
    manifests: Sequence[Manifest], protocols: Sequence[TestProtocol], combination: Combination
) -> dict[str, Any]:
    """How the descriptors are made, for readers of the file."""
    return {
        "nets": [
            {
                "net": manifest.net,
                "layer": manifest.layer,
                **_outputs(manifest),
                "numbers": _numbers(manifest),
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


def _numbers(manifest: Manifest) -> int:
    """The numbers for an image at one scale."""
    return sum(output.channels for output in manifest.outputs)


def _outputs(manifest: Manifest) -> dict[str, list[str]]:
    """The layers of a net that has several outputs."""
    if manifest.result.kind != "activations":
        return {}
    return {"outputs": [output.name for output in manifest.outputs]}


def _digest(manifest: Manifest) -> str:
    """The digest of the weights, or of the model if it contains them."""
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    return digests.get(WEIGHTS, digests[manifest.model])


def _in_words(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    for net in settings["nets"]:
        scales = ", ".join(map(str, net["scales"]))
        how = {"average": "averaged", "stack": "stacked"}[settings["combine"]]
        many = f", {how}" if len(net["scales"]) > 1 else ""
        flip = ", with the mirror image" if net["flip"] else ""
        layers = ", ".join(net["outputs"]) if "outputs" in net else f"up to {net['layer']}"
        lines.append(f"{net['net']} {layers}, Q {scales}{many}{flip}")
    return lines


def _write(
    out: str,
    taking: "_Taking",
    numbers: int,
    settings: Mapping[str, Any],
    effort: Effort,
    watch: Watcher,
) -> None:
    """Write the file; the incomplete file stays beside its path until it is complete. Ranks other
    than 0 send their descriptors to it.
    """
    task, splits = taking.task, taking.splits
    if not effort.is_first:
        work_through(
            task,
            taking.count,
            effort=effort,
            kept=None,
            doing="describing",
            as_message=task.as_message,
            in_order=True,
        )
        return
    digest = task.digest()
    sizes = {each.name: len(each.images) for each in splits}
    with plain_target(out) as target, journal(task, part_of(target, digest, "jsonl")) as kept:
        part = part_of(target, digest, "part")
        try:
            with writing(target, sizes, numbers, splits[0].classes, settings, part=part) as writer:
                taking.begin(writer, kept)
                work_through(
                    task,
                    taking.take,
                    effort=effort,
                    kept=kept,
                    doing="describing",
                    take_again=taking.take_again,
                    as_message=task.as_message,
                    in_order=True,
                    watch=watch,
                )
            kept.clear()
        finally:
            if kept.is_empty:  # nothing to resume
                with refusals(part):
                    part.unlink(missing_ok=True)


@dataclass(slots=True)
class _Taking:
    """Takes the images of one split after the other and writes them to the file."""

    splits: Sequence[_Split]
    task: Describing
    place: str | None
    """The folder that an error names."""

    left_out: dict[str, LeftOut] = field(init=False)
    """The unreadable images of each split."""

    numbers: dict[str, int] = field(init=False)
    """How many descriptors each split has."""

    _writer: FeaturesWriter = field(init=False)
    _kept: Journal[Described] = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        self.left_out = {each.name: LeftOut(len(each.images), self.place) for each in self.splits}
        self.numbers = {each.name: 0 for each in self.splits}

    def begin(self, writer: FeaturesWriter, kept: Journal[Described]) -> None:
        """Write to ``writer``; clear the journal ``kept`` if the file can never be complete."""
        self._writer, self._kept = writer, kept

    def take(self, one: Described) -> None:
        """Write an image's descriptor, or leave the image out.

        Raises:
            VggspecError: too many images are unreadable.
        """
        split, name, label = self._begin(one)
        if one.descriptor is None:
            self._leave_out(split, name, one.unread or "")
        else:
            self._writer.add(name, one.descriptor, label)
            self.numbers[split.name] += 1
        self._next += 1

    def count(self, one: Described) -> None:
        """Count an image that another rank has written.

        Raises:
            VggspecError: too many images are unreadable.
        """
        number, index = self.task.place(one.index)
        split = self.splits[number]
        if one.unread is None:
            self.numbers[split.name] += 1
        else:
            self.left_out[split.name].add(split.images.name(index), one.unread)

    def take_again(self, one: Described) -> bool:
        """Take an image of an earlier run; return False if the file lacks its descriptor."""
        if one.index != self._next:
            return False
        split, name, label = self._begin(one)
        if one.checksum is None:
            self._leave_out(split, name, one.unread or "")
        elif self._writer.add_again(name, one.checksum, label):
            self.numbers[split.name] += 1
        else:
            return False
        self._next += 1
        return True

    def _begin(self, one: Described) -> tuple[_Split, str, Any]:
        """The split of an image, its name and label."""
        number, index = self.task.place(one.index)
        split = self.splits[number]
        if split.name not in self._writer.rows:
            self._writer.begin(split.name)
        label = None if split.labels is None else split.labels[index]
        return split, split.images.name(index), label

    def _leave_out(self, split: _Split, name: str, why: str) -> None:
        self._writer.leave_out()
        try:
            self.left_out[split.name].add(name, why)
        except VggspecError:
            self._kept.clear()  # with these images the file can never be complete
            raise


def _note_left_out(watch: Watcher, text: str, reasons: Mapping[str, str]) -> None:
    if reasons:
        lines = "".join(f"\n  {shown(name)}: {shown(why)}" for name, why in reasons.items())
        watch.note(text % count(len(reasons), "image") + lines)
