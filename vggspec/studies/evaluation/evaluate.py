"""Evaluating nets on a data set: one call from bundles and a folder to errors and a report.

``evaluate`` is the whole of it. ``explain`` counts what it would compute without computing it.
"""

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vggspec.base.arguments import (
    Device,
    StrPath,
    check_choice,
    check_flag,
    check_whole,
    one_or_several,
    plain,
)
from vggspec.base.files import write_files
from vggspec.base.optional import has_library
from vggspec.base.recipe import MAX_CROPS, Average, Resize, Rounding, TestProtocol, as_scales
from vggspec.base.render import shown
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.compiler.bundling.variant import Changes, only_as_it_is, varied
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.answers import Answering, Result, Tally, kind_of
from vggspec.studies.evaluation.calibration import Calibration, calibrated
from vggspec.studies.evaluation.class_scores import (
    ClassScores,
    MacroScores,
    class_scores,
    macro,
)
from vggspec.studies.evaluation.estimate import announce_cost
from vggspec.studies.evaluation.explain import Explanation, explained
from vggspec.studies.evaluation.figures import confusion_png, reliability_png
from vggspec.studies.evaluation.question import Question, ask, names_of, table
from vggspec.studies.evaluation.report import SettingErrors, page
from vggspec.studies.evaluation.words import protocol_in_words, setting_in_words
from vggspec.studies.tasks.work import Effort, cached_journal, work_through

INDEX, RESULTS = "index.html", "results.json"
CONFUSIONS, CALIBRATION = "confusions.png", "calibration.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to evaluate. None takes what the bundle or the ``test:`` section of its spec says."""

    bundles: tuple[StrPath, ...]
    data: StrPath
    """Class folders or shards, with or without a folder for each split."""

    split: str = "val"
    limit: int | None = None
    """The largest number of images to use, taken evenly from all."""

    scales: tuple[int, ...] | None = None
    """Smallest sides Q to rescale an image to, in pixels."""

    resize: Resize | None = None
    dense: bool | None = None
    """Whether to apply the nets to whole images."""

    crops: int | None = None
    """Rows and columns of a grid of crops; without ``dense`` they replace whole images."""

    flip: bool | None = None
    """Whether to average with the mirror image."""

    average: Average | None = None
    pool: Rounding | None = None
    stride: int | None = None
    """Pixels between positions of the score map."""

    enlarge: bool = False
    """Whether to rescale an image to more than Q where a net's window does not fit."""

    table: bool = False
    """Whether to evaluate all settings of the paper's tables, and not only the whole protocol."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The errors of nets on a data set."""

    question: Question
    tally: Tally
    results: tuple[Result, ...]
    """By image, in the order of the data."""

    bundles: tuple[str, ...]
    """The paths of the nets, as they were given."""

    @property
    def top1_error(self) -> float:
        """From 0 to 1, of the main setting: the last of ``settings``."""
        return self.tally.settings[-1].top1_error

    @property
    def top5_error(self) -> float:
        """From 0 to 1, of the main setting: the true class is not among the first five."""
        return self.tally.settings[-1].top5_error

    @property
    def settings(self) -> tuple[SettingErrors, ...]:
        """Each setting in words with its errors."""
        return tuple(
            SettingErrors(*setting_in_words(self.question, setting), errors)
            for setting, errors in zip(self.question.settings, self.tally.settings, strict=True)
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """Images that could not be read, each with the reason."""
        return tuple(self.tally.left_out_names())

    @property
    def class_scores(self) -> tuple[ClassScores, ...]:
        """Precision, recall and F1 of each class that has images, in the main setting."""
        return class_scores(self.tally)

    @property
    def macro_scores(self) -> MacroScores:
        """Their means over these classes."""
        return macro(self.class_scores)

    @property
    def calibration(self) -> Calibration | None:
        """Confidence beside accuracy, in the main setting; None for nets without soft-max."""
        if kind_of(self.question) != "posteriors":
            return None
        return calibrated(
            (one.top[0][1], one.ranks[-1] == 0) for one in self.results if one.unread is None
        )

    def as_data(self) -> dict[str, Any]:
        """Everything that was found, for JSON."""
        question, tally = self.question, self.tally
        value = "posterior" if kind_of(question) == "posteriors" else "score"
        labels, calibration = question.labels, self.calibration
        return {
            "nets": [
                {"name": each.name, "bundle": bundle, "protocol": asdict(each.protocol)}
                for each, bundle in zip(question.nets, self.bundles, strict=True)
            ],
            "images": tally.images,
            "top": question.top,
            "settings": self._settings_as_data(),
            "classes": [
                {"label": labels[i], "index": i, "images": one.images, "top1_errors": one.top1}
                | {"top5_errors": one.top5, "predicted": its.predicted}
                | {"precision": its.precision, "recall": its.recall, "f1": its.f1}
                for (i, one), its in zip(
                    sorted(tally.by_class.items()), self.class_scores, strict=True
                )
            ],
            "macro": asdict(self.macro_scores),
            "calibration": None if calibration is None else calibration.as_data(),
            "confusions": [
                {"class": labels[true], "said": labels[said], "images": number}
                for (true, said), number in sorted(tally.confusions.items())
            ],
            "left_out": [
                {"file": question.images.name(index), "why": why}
                for index, why in sorted(tally.left_out.items())
            ],
            "results": [
                {
                    "file": question.images.name(one.index),
                    "class": labels[question.truth(one.index)],
                    "ranks": one.ranks,
                    "top": [{"label": labels[i], "index": i, value: x} for i, x in one.top],
                    value: one.truth,
                }
                for one in self.results
                if one.unread is None
            ],
        }

    def _settings_as_data(self) -> list[dict[str, Any]]:
        nets = self.question.nets
        return [
            {
                "name": f"{words.nets}, Q {words.scales}, {words.ways}",
                "parts": [{**asdict(part), "net": nets[part.net].name} for part in setting.parts],
                "top1_errors": words.errors.top1,
                "top1_error": words.errors.top1_error,
                "top5_errors": words.errors.top5,
                "top5_error": words.errors.top5_error,
            }
            for words, setting in zip(self.settings, self.question.settings, strict=True)
        ]

    def write_report(self, folder: StrPath) -> Path:
        """Write a page with errors, confusions and the worst mistakes, and ``as_data`` as JSON;
        also the confusion matrix and a reliability diagram as PNG, if matplotlib is installed.

        Returns the path of the page.

        Raises:
            VggspecError: the system refuses.
        """
        pictures = self._pictures()
        text = page(
            self.question,
            self.tally,
            self.results,
            self.settings,
            source=str(self.question.folder),
            calibration=self.calibration,
            pictures=pictures,
        )
        data = json.dumps(self.as_data(), indent=2)
        write_files(folder, {RESULTS: data, INDEX: text, **pictures})
        return Path(folder) / INDEX

    def _pictures(self) -> dict[str, bytes]:
        """The pictures of a report, by the names of their files."""
        if not has_library("matplotlib"):
            return {}
        pictures = {CONFUSIONS: confusion_png(self.tally)}
        if self.calibration is not None:
            accuracy = 1 - self.top1_error
            pictures[CALIBRATION] = reliability_png(self.calibration, accuracy)
        return pictures


def evaluate(
    bundles: StrPath | Sequence[StrPath],
    data: StrPath,
    *,
    split: str = "val",
    limit: int | None = None,
    scales: int | Iterable[int] | None = None,
    resize: Resize | None = None,
    dense: bool | None = None,
    crops: int | None = None,
    flip: bool | None = None,
    average: Average | None = None,
    pool: Rounding | None = None,
    stride: int | None = None,
    enlarge: bool = False,
    table: bool = False,
    device: Device = "auto",
    procs: int | None = None,
    gpus: int | None = None,
    threads: int | None = None,
    batch_pixels: int | None = None,
    resume: bool = False,
    report: StrPath | None = None,
    finish: Callable[[Evaluation], None] | None = None,
    watch: Watcher = SILENT,
) -> Evaluation:
    """Test nets on a data set: their top-1 and top-5 errors. Several nets are fused.

        found = evaluate("D", "ILSVRC", scales=(256, 384, 512), procs=4)
        print(found.top1_error)

    Results are the same to the last digit for all batches, threads and processes. Results so far
    are kept in the user's cache folder until this returns, so an interrupted call can be resumed.

    Args:
        bundles: Bundles that classify, all with the same classes.
        data: Class folders or shards, with or without a folder for each split.
        split: The folder below ``data``.
        limit: The largest number of images to use, taken evenly from all.
        scales: Smallest sides Q to rescale an image to, in pixels; averaged. This and all that
            follow as far as ``stride`` default to the bundle and the ``test:`` section of its spec.
        resize: How to rescale.
        dense: Whether to apply the nets to whole images.
        crops: Rows and columns of a grid of crops; without ``dense`` they replace whole images.
        flip: Whether to average with the mirror image.
        average: What to average over space: scores or posteriors.
        pool: How poolings round.
        stride: Pixels between positions of the score map.
        enlarge: Whether to rescale an image to more than Q where a net's window does not fit.
        table: Whether to evaluate all settings of the paper's tables in the same pass.
        device: Where the nets run.
        procs: Processes that share the images.
        gpus: The same, each with a GPU of its own.
        threads: CPU threads of each process; by default all cores, shared among processes.
        batch_pixels: The largest batch; one image always fits.
        resume: Whether to resume an interrupted call with the same arguments.
        report: A folder for ``Evaluation.write_report``.
        finish: Is called with the result while it is still kept: if this raises, the call can be
            resumed without computing anything again.
        watch: Receives the progress.

    Raises:
        VggspecError: the bundles or the data cannot be used, or a net fails.
        ArgumentError: ``procs`` and ``gpus`` are both given, a number is out of range, a word is
            none of the choices, or no bundle is named.
        TypeError: an argument is of the wrong type.
        MissingLibraryError: the device was requested by name and is not available.
    """
    check_whole("limit", limit, least=1)
    check_whole("crops", crops, least=1, most=MAX_CROPS)
    check_whole("stride", stride, least=1)
    for name, flag in {"dense": dense, "flip": flip, "enlarge": enlarge, "table": table}.items():
        check_flag(name, flag)
    for name, word, words in (
        ("resize", resize, Resize),
        ("average", average, Average),
        ("pool", pool, Rounding),
    ):
        check_choice(name, word, words)
    request = Request(
        bundles=tuple(one_or_several("bundles", bundles, least=1)),
        data=data,
        split=split,
        limit=plain(limit),
        scales=None if scales is None else as_scales(scales),
        resize=resize,
        dense=plain(dense),
        crops=plain(crops),
        flip=plain(flip),
        average=average,
        pool=pool,
        stride=plain(stride),
        enlarge=plain(enlarge),
        table=plain(table),
    )
    effort = Effort.of(
        device=device,
        procs=procs,
        gpus=gpus,
        threads=threads,
        batch_pixels=batch_pixels,
        resume=resume,
    )
    watch = effort.watcher(watch)
    with contextlib.ExitStack() as stack:
        question = _posed(request, effort, stack, watch)
        given = tuple(str(each) for each in request.bundles)
        found = stack.enter_context(answered(question, effort, given, watch))
        if finish is not None and effort.is_first:
            finish(found)
        if report is not None and effort.is_first:
            watch.about("report", str(found.write_report(report)))
            if not has_library("matplotlib"):
                watch.note('the report has no pictures: pip install "vggspec[train]"')
        return found


def explain(
    request: Request, *, batch_pixels: int | None = None, watch: Watcher = SILENT
) -> Explanation:
    """Count what ``evaluate`` would compute; no net is loaded.

    Raises:
        VggspecError: the bundles or the data cannot be used.
    """
    effort = Effort(batch_pixels=batch_pixels)
    with contextlib.ExitStack() as stack:
        return explained(_posed(request, effort, stack, watch, is_run=False))


@contextlib.contextmanager
def answered(
    question: Question, effort: Effort, bundles: tuple[str, ...], watch: Watcher = SILENT
) -> Generator[Evaluation, None, None]:
    """The answers to a question; they are kept to be resumed until the block ends without an error.

    Raises:
        VggspecError: a net fails, or too many images cannot be read.
        MissingLibraryError: the device was requested by name and is not available.
    """
    task, tally = Answering(question), Tally(question)
    results: list[Result] = []

    def take(result: Result) -> None:
        results.append(result)
        tally.add(result)

    def details() -> tuple[str, ...]:
        error = f"error {tally.settings[-1].top1_error:.2%}" if tally.images else ""
        return error, f"{len(tally.left_out)} left out" if tally.left_out else ""

    with cached_journal(task, effort, watch) as kept:
        work_through(
            task, take, effort=effort, kept=kept, doing="testing", details=details, watch=watch
        )
        results.sort(key=lambda result: result.index)
        yield Evaluation(question=question, tally=tally, results=tuple(results), bundles=bundles)
        if kept is not None:
            kept.clear()


def announce(question: Question, effort: Effort, watch: Watcher) -> None:
    """Pass on what is asked, its cost and the expected time.

    Raises:
        VggspecError: a bundle is damaged or returns NaN or infinity.
        MissingLibraryError: the device was requested by name and is not available.
    """
    names = ", ".join(shown(each.name) for each in question.nets)
    watch.about("net" if len(question.nets) == 1 else "nets", names)
    classes = count(len(set(question.classes)), "class")
    watch.about("data", f"{question.folder}, {count(len(question.indices), 'image')} of {classes}")
    for text in dict.fromkeys(protocol_in_words(each) for each in question.nets):
        watch.about("test", text)
    announce_cost(question, effort.machines * (effort.procs if effort.on_gpus else 1), watch)


def _posed(
    request: Request,
    effort: Effort,
    stack: contextlib.ExitStack,
    watch: Watcher,
    *,
    is_run: bool = True,
) -> Question:
    """The question that is asked, announced if it ``is_run``; ``stack`` holds its bundles."""
    opened = [open_bundle(each, deep=True) for each in request.bundles]
    changes = Changes(average=request.average, pool=request.pool, stride=request.stride)
    asked = [_varied(each, changes, stack, watch) for each in opened]
    images = open_labelled(Path(request.data), request.split)
    question, assumed = ask(
        asked,
        [protocol_of(each.manifest, request) for each in asked],
        images,
        names=names_of(opened),  # of variants they would be those of temporary folders
        limit=request.limit,
        enlarge=request.enlarge,
        device=effort.device,
        threads=effort.threads,
        batch_pixels=effort.batch_pixels,
    )
    if request.table:
        question = replace(question, settings=table(question.nets))
    if is_run and effort.is_first:
        announce(question, effort, watch)
    for note in images.notes:
        watch.note(note)
    if is_run and assumed is not None:
        watch.note(assumed)
    return question


def _varied(
    bundle: Bundle, changes: Changes, stack: contextlib.ExitStack, watch: Watcher
) -> Bundle:
    if changes == Changes():
        return bundle
    found = stack.enter_context(varied(bundle, changes))
    unused = only_as_it_is(bundle.manifest)
    if found is not bundle and unused is not None:
        watch.note(f"{bundle.path} is recompiled in fp32 for this; {unused} is not used")
    return found


def protocol_of(manifest: Manifest, request: Request) -> TestProtocol:
    """The protocol of a net: that of its spec, as far as the request does not say otherwise.

    Crops without ``dense`` replace whole images, as in a ``test:`` section.
    """
    test, dense, crops = manifest.test, request.dense, request.crops
    if dense is None and crops is None:
        dense, crops = test.dense, test.crops
    elif dense is None:
        dense = False
    elif not dense and crops is None:
        crops = test.crops or 1
    return replace(
        test,
        scales=test.scales if request.scales is None else request.scales,
        dense=dense,
        crops=crops,
        flip=test.flip if request.flip is None else request.flip,
        average=manifest.average,
        resize=request.resize or test.resize,
    )
