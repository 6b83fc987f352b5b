"""Localisation from bundles to boxes on images, or to errors on a data set (appendix A)."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggspec.base.arguments import (
    Device,
    StrPath,
    check_choice,
    check_flag,
    check_number,
    check_whole,
    one_or_several,
    plain,
)
from vggspec.base.catalogue.localising import ClassRequired
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.recipe import MAX_CROPS, Resize, as_scales
from vggspec.base.render import shown
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.base.wording import count
from vggspec.bundle.labels import find_class
from vggspec.bundle.manifest import MANIFEST
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.compiler.bundling.variant import Changes, only_as_it_is, varied
from vggspec.data.annotated import Annotated, Examples, open_annotated
from vggspec.data.box_coding import RIGHT_IOU
from vggspec.data.decode import BadImageError
from vggspec.data.labelled import Labelled
from vggspec.data.matched import match_classes, spread
from vggspec.runtime.net import BundleNet
from vggspec.studies.image_files import ImageFiles
from vggspec.studies.localisation.errors import LocalisationTally, Verdict, judge
from vggspec.studies.localisation.localiser import MATCH, Ensemble, Localiser, Located, Method
from vggspec.studies.localisation.result import Localisation, LocalisedImage, way_of
from vggspec.studies.localisation.task import Locating
from vggspec.studies.tasks.work import Effort, cached_journal, work_through

TOP_DRAWN, TOP_JUDGED = 1, 5

Paths = StrPath | Iterable[StrPath]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nets:
    """The bundles that are used, with the stride and the outputs that the method requires."""

    boxes: tuple[Bundle, ...]
    classifiers: tuple[Bundle, ...]
    names: tuple[str, ...]
    """The paths of the bundles of boxes, as they were given."""

    classifier_names: tuple[str, ...]
    method: Method


def _ignore(_found: object) -> None:
    pass


def localise(
    bundles: Paths,
    images: Paths = (),
    *,
    data: StrPath | None = None,
    classifiers: Paths = (),
    label: str | int | None = None,
    classes: int | None = None,
    scales: int | Iterable[int] | None = None,
    resize: Resize | None = None,
    flip: bool | None = None,
    crops: int | None = None,
    stride: int | None = None,
    enlarge: bool = False,
    match: float | None = None,
    literal: bool = False,
    split: str = "val",
    limit: int | None = None,
    least_iou: float = RIGHT_IOU,
    device: Device = "auto",
    procs: int | None = None,
    gpus: int | None = None,
    threads: int | None = None,
    batch_pixels: int | None = None,
    resume: bool = False,
    on_image: Callable[[LocalisedImage], None] = _ignore,
    finish: Callable[[Localisation], None] = _ignore,
    watch: Watcher = SILENT,
) -> Localisation:
    """Find objects on images with nets that end in boxes, or measure the errors on a data set.

        found = localise("PCR", "photo.jpg", classifiers="D", classes=3)
        found.images[0].picture().save("boxes.png")

    Without a classifier, the nets see the central window of each image. With classifiers, they see
    all windows: the boxes of the likeliest classes are merged, and the merged box with the largest
    sum of posteriors is the box of its class.

    Args:
        bundles: Nets of boxes.
        images: Image files. One that cannot be read is left out: ``LocalisedImage.unread``.
        data: Instead: a folder with VOC or COCO annotations, to measure errors on.
        classifiers: Nets whose posteriors are averaged.
        label: The class to find on ``images``, by label or index.
        classes: How many of the classifier's likeliest classes to find: by default 1, and 5 on
            ``data``.
        scales: Each Q, in pixels. This, ``resize``, ``flip`` and ``crops`` default to the ``test:``
            section of the first net's spec, ``stride`` to that of each bundle.
        resize: How the longer side is rounded.
        flip: Whether to use the mirror image too.
        crops: Rows and columns of a grid of crops, instead of dense application.
        stride: Pixels between windows.
        enlarge: Whether to enlarge images in which a window does not fit.
        match: The largest match score of boxes that are merged: 0 for equal boxes, 1 and more for
            boxes that share nothing. By default 0.6.
        literal: Whether to match by the formula that OverFeat prints; ``match`` is then in pixels.
        split: The split of ``data``.
        limit: How many images of ``data`` to use at most, taken evenly from all.
        least_iou: The IoU above which a box is right.
        device: Where the nets run: ``auto``, ``cpu``, ``cuda``, ``tensorrt`` or ``openvino``.
        procs: How many processes share the images of ``data``.
        gpus: The same, each with a GPU of its own.
        threads: CPU threads of each process.
        batch_pixels: The largest batch; one image always fits.
        resume: Whether to resume an interrupted call with the same arguments, on ``data``.
        on_image: Receives the boxes of each of ``images`` as soon as they are known.
        finish: Receives the result on ``data`` while it is still kept: if it raises, the call can
            be resumed without computing anything again.
        watch: Receives the settings and the progress.

    Raises:
        ArgumentError: arguments contradict each other, ``label`` is not a class of the nets, a
            number is out of range, or a word is none of the choices.
        TypeError: an argument is of the wrong type.
        VggspecError: the nets do not match, or a bundle, the data or too many images cannot be
            used.
        MissingLibraryError: the device was requested by name and is not available.
    """
    check_choice("resize", resize, Resize)
    check_whole("limit", limit, least=1)
    check_whole("crops", crops, least=1, most=MAX_CROPS)
    check_whole("stride", stride, least=1)
    check_whole("classes", classes, least=1)
    check_number("least_iou", least_iou, least=0, below=1)
    check_number("match", match, least=0)
    for name, flag in {"flip": flip, "enlarge": enlarge, "literal": literal}.items():
        check_flag(name, flag)
    limit, crops, stride, classes = plain(limit), plain(crops), plain(stride), plain(classes)
    least_iou, match = plain(least_iou), plain(match)
    flip, enlarge, literal = plain(flip), plain(enlarge), plain(literal)
    bundles = one_or_several("bundles", bundles, least=1)
    images = one_or_several("images", images)
    classifiers = one_or_several("classifiers", classifiers)
    given = {"crops": crops, "stride": stride, "classes": classes, "match": match}
    if (data is None) != bool(images):
        raise ArgumentError("give either `images` or `data`")
    if label is not None and (data is not None or classes is not None):
        raise ArgumentError("`label` goes with `images`, without `classes`")
    if data is None and (limit or procs or gpus or resume):
        raise ArgumentError("`limit`, `procs`, `gpus` and `resume` go with `data`")
    if literal and match is None:
        raise ArgumentError("`literal` requires `match`, in pixels")
    for name, value in given.items():
        if value is not None and not classifiers:
            raise ArgumentError(f"`{name}` requires `classifiers`")
    effort = Effort.of(
        device=device,
        procs=procs,
        gpus=gpus,
        threads=threads,
        batch_pixels=batch_pixels,
        resume=resume,
        is_shared=data is not None,
    )
    watch = effort.watcher(watch)
    opened = [open_bundle(each, deep=True) for each in bundles]
    judges = [open_bundle(each, deep=True) for each in classifiers]
    test = opened[0].manifest.test
    protocol = replace(
        test,
        scales=test.scales if scales is None else as_scales(scales),
        flip=test.flip if flip is None else flip,
        resize=resize or test.resize,
        dense=test.dense if crops is None else False,
        crops=test.crops if crops is None else crops,
    )
    method = Method(
        protocol=protocol,
        top=classes or (TOP_DRAWN if data is None else TOP_JUDGED),
        match=MATCH if match is None else match,
        literal=literal,
        enlarge=enlarge,
        threads=threads,
        batch_pixels=batch_pixels,
    )
    is_dense = protocol.dense or protocol.crops is None
    with contextlib.ExitStack() as stack:

        def vary(some: Sequence[Bundle], *, keep_map: bool) -> tuple[Bundle, ...]:
            return tuple(_vary(each, stride, stack, watch, keep_map=keep_map) for each in some)

        nets = _Nets(
            boxes=vary(opened, keep_map=False),
            classifiers=vary(judges, keep_map=is_dense),
            names=tuple(os.fspath(each) for each in bundles),
            classifier_names=tuple(os.fspath(each) for each in classifiers),
            method=method,
        )
        if data is None:
            return _localise_images(nets, images, label, effort, on_image, watch)
        found = open_annotated(Path(data), split, None, watch)
        return _localise_data(nets, found, split, limit, least_iou, effort, finish, watch)


def _vary(
    bundle: Bundle,
    stride: int | None,
    stack: contextlib.ExitStack,
    watch: Watcher,
    *,
    keep_map: bool,
) -> Bundle:
    """The bundle with another stride, and with its score map if that is required."""
    manifest = bundle.manifest
    lacks_map = keep_map and manifest.score_map is None and manifest.form == "dense"
    if stride is None and not (lacks_map and manifest.result.kind == "posteriors"):
        return bundle
    changes = Changes(stride=stride, keep_map=True if lacks_map else None)
    found = stack.enter_context(varied(bundle, changes))
    unused = only_as_it_is(manifest)
    if found is not bundle and unused is not None:
        watch.note(f"{bundle.path} is recompiled in fp32 for this; {unused} is not used")
    return found


# Images.


def _localise_images(
    nets: _Nets,
    images: Sequence[StrPath],
    label: str | int | None,
    effort: Effort,
    on_image: Callable[[LocalisedImage], None],
    watch: Watcher,
) -> Localisation:
    files, found = ImageFiles.of(images), []
    with contextlib.ExitStack() as stack:
        loaded = [
            [
                stack.enter_context(BundleNet(each, device=effort.device, threads=effort.threads))
                for each in some
            ]
            for some in (nets.boxes, nets.classifiers)
        ]
        localiser = Localiser(loaded[0], loaded[1], nets.method)
        labels = localiser.labels or tuple(f"class {i}" for i in range(localiser.num_classes or 0))
        asked = _asked(nets, localiser, label, labels)
        located = localiser(lambda index: _read(files, index), range(len(files)), lambda _: asked)
        for one in stack.enter_context(contextlib.closing(located)):
            image = _image(one, files.name(one.index), labels)
            found.append(image)
            on_image(image)
            watch.progress(
                Progress(doing="localising", done=len(found), total=len(files), unit="images")
            )
    return _localisation(nets, localiser, labels, found)


def _asked(
    nets: _Nets, ensemble: Localiser, label: str | int | None, labels: tuple[str, ...]
) -> list[int | None]:
    """The classes to request on each image."""
    if label is None:
        if ensemble.needs_class:
            raise VggspecError(report(ClassRequired(labels=labels), path=nets.names[0]))
        return [] if nets.classifiers else [None]
    if ensemble.num_classes is None:
        raise ArgumentError(
            "the nets have one box for all classes: a class to find requires a classifier"
        )
    try:
        return [find_class(labels, str(label))]
    except LookupError as error:
        raise ArgumentError(str(error.args[0])) from error


def _read(files: ImageFiles, index: int) -> bytes:
    if Path(files.name(index), MANIFEST).is_file():
        raise BadImageError("it is a bundle; name further nets with `--with`")
    return files.read(index)


def _image(
    one: Located, file: str, labels: tuple[str, ...], verdict: Verdict | None = None
) -> LocalisedImage:
    return LocalisedImage(
        file=file,
        size=one.size,
        labels=labels,
        likeliest=one.likeliest,
        asked=one.asked,
        unread=one.unread if verdict is None else verdict.unread,
        verdict=verdict,
    )


def _localisation(
    nets: _Nets,
    ensemble: Ensemble[Bundle] | Localiser,
    labels: tuple[str, ...],
    images: Sequence[LocalisedImage],
    tally: LocalisationTally | None = None,
) -> Localisation:
    return Localisation(
        nets=nets.names,
        classifiers=nets.classifier_names,
        method=nets.method,
        protocol=ensemble.protocol,
        labels=labels,
        images=tuple(images),
        tally=tally,
    )


# Data sets.


def _localise_data(
    nets: _Nets,
    data: Annotated,
    split: str,
    limit: int | None,
    least_iou: float,
    effort: Effort,
    finish: Callable[[Localisation], None],
    watch: Watcher,
) -> Localisation:
    ensemble = Ensemble(nets.boxes, nets.classifiers, nets.method)
    classes, labels, assumed = _match(ensemble, data, nets.names[0])
    task = Locating(
        nets=nets.boxes,
        classifiers=nets.classifiers,
        method=nets.method,
        data=data,
        classes=classes,
        indices=spread(len(data), limit),
        device=effort.device,
    )
    _announce(nets, ensemble, data, f"{count(len(task.indices), 'image')} of {split}", watch)
    if assumed is not None:
        watch.note(assumed)
    tally = LocalisationTally(total=len(task.indices))
    found: list[tuple[Located, Verdict]] = []

    def take(one: Located) -> None:
        verdict = judge(one, data, classes, least_iou)
        tally.add(verdict, data.name(one.index))
        found.append((one, verdict))

    with cached_journal(task, effort, watch) as kept:
        work_through(task, take, effort=effort, kept=kept, doing="localising", watch=watch)
        found.sort(key=lambda each: each[0].index)
        images = [_image(one, data.name(one.index), labels, verdict) for one, verdict in found]
        for image in images:
            if image.unread is not None:
                watch.note(f"{shown(image.file)} was left out: {shown(image.unread)}")
        result = _localisation(nets, ensemble, labels, images, tally)
        if effort.is_first:
            finish(result)
        if kept is not None:
            kept.clear()
    return result


def _match(
    ensemble: Ensemble[Bundle], data: Annotated, net: str
) -> tuple[tuple[int, ...], tuple[str, ...], str | None]:
    """The nets' class for each class of the data, the nets' labels, and what was assumed."""
    number = ensemble.num_classes
    if number is None:
        return tuple(range(len(data.classes))), data.classes, None
    examples = Labelled(
        folder=data.root,
        classes=data.classes,
        images=Examples(data),
        stamp=data.stamp,
    )
    classes, assumed = match_classes(examples, ensemble.labels, number, net=net)
    labels = ensemble.labels or tuple(
        data.classes[classes.index(i)] if i in classes else f"class {i}" for i in range(number)
    )
    return classes, labels, assumed


def _announce(
    nets: _Nets, ensemble: Ensemble[Bundle], data: Annotated, images: str, watch: Watcher
) -> None:
    watch.about("net" if len(nets.names) == 1 else "nets", ", ".join(map(shown, nets.names)))
    if nets.classifiers:
        watch.about("by", ", ".join(map(shown, nets.classifier_names)))
    watch.about("data", f"{data.root}, {images}")
    protocol = ensemble.protocol
    scales = ", ".join(map(str, protocol.scales))
    way = way_of(protocol, has_classifier=bool(nets.classifiers))
    mirrored = "with" if protocol.flip else "without"
    watch.about("test", f"Q {scales}, {way}, {mirrored} mirror images")
    if data.left_out:
        watch.note(f"{count(len(data.left_out), 'image')} left out for bad annotations")
    for note in data.notes:
        watch.note(note)
