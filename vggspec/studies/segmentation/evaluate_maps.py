"""Testing a net that labels pixels: one call from a bundle and a folder to mean IoU.

Source: Long, Shelhamer & Darrell 2015, section 5.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vggspec.base.arguments import Device, StrPath, check_choice, check_flag, check_whole, plain
from vggspec.base.catalogue.label_maps import NoLabelMap
from vggspec.base.catalogue.masks import TooManyBadMasks
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Resize, TestProtocol, as_scales
from vggspec.base.render import shown
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.data.confusion import Confusion
from vggspec.data.labelled import Labelled
from vggspec.data.left_out import LeftOut
from vggspec.data.masked import Masked, open_masked
from vggspec.data.matched import match_classes, spread
from vggspec.studies.segmentation.task import Compared, Comparing
from vggspec.studies.tasks.work import Effort, cached_journal, work_through


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class MapEvaluation:
    """How a net labels the pixels of a data set."""

    bundle: str
    """The path, as it was given."""

    protocol: TestProtocol
    labels: tuple[str, ...]
    """The names of the net's classes."""

    confusion: Confusion
    """The labelled pixels of all pictures together."""

    images: int
    """How many pictures were compared."""

    left_out: tuple[str, ...]
    """Those that could not be used, each with the reason."""

    @property
    def mean_iou(self) -> float:
        """From 0 to 1: the mean over the classes that have pixels or are given to some."""
        return self.confusion.mean_iou

    @property
    def pixel_accuracy(self) -> float:
        """From 0 to 1: the share of labelled pixels that are given their class."""
        return self.confusion.pixel_accuracy

    @property
    def mean_accuracy(self) -> float:
        """From 0 to 1: the mean over classes of the share of their pixels that are given them."""
        return self.confusion.mean_accuracy

    @property
    def confused(self) -> tuple[tuple[str, str, int], ...]:
        """Pixels by the class that they have and the other one that they are given, the most
        frequent first.
        """
        counts = self.confusion.counts - np.diag(np.diag(self.confusion.counts))
        order = np.argsort(-counts, axis=None, kind="stable")[: int((counts > 0).sum())]
        pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
        return tuple((self.labels[i], self.labels[j], int(counts[i, j])) for i, j in pairs)

    def as_data(self) -> dict[str, Any]:
        """Everything that was found, for JSON; null for a class without pixels."""
        found = self.confusion
        of_class = zip(self.labels, found.ious, found.accuracies, found.counts, strict=True)
        return {
            "bundle": self.bundle,
            "protocol": asdict(self.protocol),
            "images": self.images,
            "pixels": found.total,
            "mean_iou": found.mean_iou,
            "pixel_accuracy": found.pixel_accuracy,
            "mean_accuracy": found.mean_accuracy,
            "classes": [
                {
                    "label": label,
                    "pixels": int(counts.sum()),
                    "iou": _known(iou),
                    "accuracy": _known(accuracy),
                }
                for label, iou, accuracy, counts in of_class
            ],
            "confusion": found.counts.tolist(),
            "left_out": list(self.left_out),
        }


def evaluate_maps(
    bundle: StrPath,
    data: StrPath,
    *,
    split: str = "val",
    limit: int | None = None,
    scales: int | Sequence[int] | None = None,
    resize: Resize | None = None,
    flip: bool | None = None,
    device: Device = "auto",
    procs: int | None = None,
    gpus: int | None = None,
    threads: int | None = None,
    resume: bool = False,
    finish: Callable[[MapEvaluation], None] | None = None,
    watch: Watcher = SILENT,
) -> MapEvaluation:
    """Test a net that labels pixels on whole pictures with masks: mean IoU and pixel accuracy.

        found = evaluate_maps("fcn8s", "VOC2012", scales=(300, 400, 500), procs=4)
        print(found.mean_iou)

    Each pixel of a picture is given the likeliest class, as by ``predict``, and compared with the
    mask; pixels that the mask ignores do not count. All pictures count together, pixel by pixel.
    Results so far are kept in the user's cache folder until this returns, so an interrupted call
    can be resumed.

    Args:
        bundle: A bundle of a net that ends in ``soft-max(map)``.
        data: A folder of pictures and masks, or Pascal VOC's, or Cityscapes'.
        split: The split of it.
        limit: The largest number of pictures to use, taken evenly from all.
        scales: Smallest sides Q to rescale a picture to, in pixels; posteriors are averaged. This,
            ``resize`` and ``flip`` default to the ``test:`` section of the bundle's spec.
        resize: How to rescale.
        flip: Whether to average with the mirror image.
        device: Where the net runs.
        procs: Processes that share the pictures.
        gpus: The same, each with a GPU of its own.
        threads: CPU threads of each process; by default all cores, shared among processes.
        resume: Whether to resume an interrupted call with the same arguments.
        finish: Is called with the result while it is still kept: if this raises, the call can be
            resumed without computing anything again.
        watch: Receives the progress.

    Raises:
        VggspecError: the bundle or the data cannot be used, too many pictures cannot, or the net
            fails.
        ArgumentError: ``procs`` and ``gpus`` are both given, a number is out of range, or a word is
            none of the choices.
        TypeError: an argument is of the wrong type.
        MissingLibraryError: the device was requested by name and is not available.
    """
    check_whole("limit", limit, least=1)
    check_flag("flip", flip)
    check_choice("resize", resize, Resize)
    limit, flip = plain(limit), plain(flip)
    effort = Effort.of(device=device, procs=procs, gpus=gpus, threads=threads, resume=resume)
    watch = effort.watcher(watch)
    opened = open_bundle(bundle, deep=True)
    manifest = opened.manifest
    if not manifest.segments:
        raise VggspecError(report(NoLabelMap(output=manifest.gives), path=str(bundle)))
    protocol = replace(
        manifest.test,
        scales=manifest.test.scales if scales is None else as_scales(scales),
        flip=manifest.test.flip if flip is None else flip,
        resize=resize or manifest.test.resize,
    )
    masked = open_masked(Path(data), split, watch)
    classes, labels, assumed = _match(opened, masked)
    task = Comparing(
        bundle=opened,
        protocol=protocol,
        data=masked,
        classes=classes,
        indices=spread(len(masked), limit),
        device=effort.device,
        threads=effort.threads,
    )
    watch.about("net", shown(str(bundle)))
    number = count(len(task.indices), "picture")
    watch.about("data", f"{masked.root}, {number} of {split}, {count(len(labels), 'class')}")
    mirrored = "with" if protocol.flip else "without"
    scales_said = ", ".join(map(str, protocol.scales))
    watch.about("test", f"Q {scales_said}, whole pictures, {mirrored} mirror images")
    for note in (*masked.notes, *([] if assumed is None else [assumed])):
        watch.note(note)
    return _worked_through(task, str(bundle), labels, effort, finish, watch)


def labels_pixels(bundle: StrPath) -> bool:
    """Whether a bundle is one that ``evaluate_maps`` tests, and not ``evaluate``.

    Raises:
        VggspecError: it cannot be opened.
    """
    return open_bundle(bundle).manifest.segments


def _worked_through(
    task: Comparing,
    bundle: str,
    labels: tuple[str, ...],
    effort: Effort,
    finish: Callable[[MapEvaluation], None] | None,
    watch: Watcher,
) -> MapEvaluation:
    left_out = LeftOut(len(task.indices), root=task.data.root, what=TooManyBadMasks)
    counts = np.zeros((task.number, task.number), np.int64)
    images = 0

    def take(result: Compared) -> None:
        nonlocal images
        if result.unread is not None:
            left_out.add(task.data.name(result.index), result.unread)
            return
        images += 1
        for i, j, pixels in result.pixels:
            counts[i, j] += pixels

    def details() -> tuple[str, ...]:
        found = f"mean IoU {Confusion(counts).mean_iou:.2%}" if images else ""
        return found, f"{len(left_out)} left out" if len(left_out) else ""

    with cached_journal(task, effort, watch) as kept:
        work_through(
            task, take, effort=effort, kept=kept, doing="testing", details=details, watch=watch
        )
        result = MapEvaluation(
            bundle=bundle,
            protocol=task.protocol,
            labels=labels,
            confusion=Confusion(counts),
            images=images,
            left_out=tuple(sorted(left_out.first(len(left_out)))),
        )
        if finish is not None and effort.is_first:
            finish(result)
        if kept is not None:
            kept.clear()
    return result


def _match(bundle: Bundle, masked: Masked) -> tuple[tuple[int, ...], tuple[str, ...], str | None]:
    """The net's class for each class of the masks, the net's labels, and what was assumed."""
    manifest = bundle.manifest
    examples = Labelled(
        folder=masked.root, classes=masked.classes, images=masked, stamp=masked.stamp
    )
    number = manifest.result.channels
    classes, assumed = match_classes(examples, manifest.labels, number, net=str(bundle.path))
    labels = manifest.labels or tuple(
        masked.classes[classes.index(i)] if i in classes else f"class {i}" for i in range(number)
    )
    return classes, labels, assumed


def _known(share: float) -> float | None:
    return None if math.isnan(share) else float(share)
