"""``vggspec svm``: a linear SVM fitted on features, and how well it tells classes apart."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.pacing import pacing
from vggspec.cli.table import aligned
from vggspec.cli.targets import check_spared

if TYPE_CHECKING:
    from vggspec.studies.features.linear_svm import LinearModel, Precision, Scored, Trial
    from vggspec.studies.features.svm_task import Task

DEFAULT_C = (0.01, 0.1, 1.0, 10.0, 100.0)
CONFUSIONS_SHOWN = 5


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[float, ...]:
    """``0.1,1`` as numbers, in ascending order."""
    if value is None:
        return DEFAULT_C
    try:
        found = sorted({float(word) for word in value.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < number < math.inf for number in found):
        raise click.BadParameter(f"{value!r} is not numbers above 0 such as 0.1,1,10.")
    return tuple(found)


@click.command(
    "svm",
    epilog="""\b
Examples:
  vggspec svm features.safetensors
  vggspec svm trainval.safetensors --test test.safetensors --ap voc07
  vggspec svm features.safetensors --c 0.1,1,10 --folds 3 --json
  vggspec svm features.safetensors -o model.safetensors""",
)
@click.argument("features")
@click.option(
    "--test",
    metavar="FILE",
    help="Features to test on, their split `val` or their only one.  [default: `val` of the same "
    "file]",
)
@click.option(
    "--c",
    "cs",
    callback=_numbers,
    metavar="C,...",
    help="What to choose C from: the larger, the less is an image allowed to lie on the wrong "
    "side.  [default: 0.01,0.1,1,10,100]",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    metavar="N",
    help="Of the cross-validation.  [default: 5]",
)
@click.option(
    "--ap",
    "precision",
    type=click.Choice(["area", "voc07"]),
    default="area",
    help="Average precision: at each true image, or at eleven recalls as VOC had it until 2009.  "
    "[default: area]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    metavar="N",
    help="Of the folds.  [default: 0]",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    help="Write the model: safetensors with `weights` and `bias`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    features: str,
    *,
    test: str | None,
    cs: tuple[float, ...],
    folds: int,
    precision: str,
    seed: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Fit a linear SVM on the descriptors that `vggspec features` wrote, and test it.

    One class against the rest, on the split `train`, else on the only one there is. C is chosen by
    cross-validation, by accuracy; where images have several classes, by mean average precision.
    """
    if out is not None:
        check_spared([out], [features, test])
    from vggspec.base.optional import require
    from vggspec.studies.features import linear_svm, svm_task
    from vggspec.studies.features.file import open_features

    require("sklearn", "vggspec svm")
    ap = cast("Precision", precision)
    task = svm_task.pose(open_features(features), open_features(test) if test else None, folds)
    problems = 1 if task.fit.labels.ndim == 1 else len(task.classes)
    with pacing("choosing C", problems * folds * len(cs), "fits") as watch:
        trials = linear_svm.try_out(
            task.fit.features,
            task.fit.labels,
            cs,
            folds=folds,
            seed=seed,
            precision=ap,
            watch=watch,
        )
    best = linear_svm.best(trials)
    with pacing(f"C = {best.c:g}", problems, "fits") as watch:
        model = linear_svm.fit(task.fit.features, task.fit.labels, best.c, watch=watch)
    scored = None
    if task.test is not None:
        found = model.scores(task.test.features)
        scored = linear_svm.score(found, task.test.labels, ap)
    seen = _Seen(task=task, trials=trials, model=model, scored=scored, precision=ap)
    click.echo(json.dumps(_as_dict(seen), indent=2) if as_json else "\n".join(_as_text(seen)))
    for warning in _warnings(seen):
        click.echo(f"warning: {warning}", err=True)
    if out is not None:  # last, so that a full disk does not keep back what was found
        linear_svm.save(out, model, task.classes, task.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """All that came of it."""

    task: "Task"
    trials: "tuple[Trial, ...]"
    model: "LinearModel"
    scored: "Scored | None"
    precision: "Precision"

    @property
    def measure(self) -> str:
        """What C was chosen by."""
        is_one = self.task.fit.labels.ndim == 1
        return "accuracy" if is_one else "mean average precision"


def _warnings(seen: _Seen) -> Iterator[str]:
    cs = [trial.c for trial in seen.trials]
    if len(cs) > 1 and seen.model.c in (cs[0], cs[-1]):
        end = "smallest" if seen.model.c == cs[0] else "largest"
        yield f"C = {seen.model.c:g} is the {end} that was tried: give others by --c"
    for trial in seen.trials:
        if trial.unconverged:
            fits = count(trial.unconverged, "fit")
            yield f"at C = {trial.c:g} {fits} of the cross-validation did not converge"
    if seen.model.unconverged:
        yield f"{count(seen.model.unconverged, 'SVM')} of the model did not converge"


def _as_text(seen: _Seen) -> Iterator[str]:
    task = seen.task
    classes = count(len(task.classes), "class")
    numbers = task.fit.features.shape[1]
    images = count(len(task.fit.labels), "image")
    yield f"fitted on `{shown(task.fit.split)}`: {images} of {classes}, {numbers} numbers each"
    yield ""
    folds = len(seen.trials[0].scores)
    rows = [("C", seen.measure, f"{folds} folds")]
    for trial in seen.trials:
        mark = " *" if trial.c == seen.model.c else ""
        mean = f"{100 * trial.mean:.1f} ± {100 * trial.spread:.1f} %{mark}"
        rows.append((f"{trial.c:g}", mean, " ".join(f"{100 * one:.1f}" for one in trial.scores)))
    yield from aligned(rows, right=(0,))
    if seen.scored is not None:
        yield ""
        yield from _scored_as_text(seen, seen.scored)


def _scored_as_text(seen: _Seen, scored: "Scored") -> Iterator[str]:
    task = seen.task
    assert task.test is not None
    yield f"tested on `{shown(task.test.split)}`: {count(scored.images, 'image')}"
    yield ""
    kind = "" if seen.precision == "area" else "  (11 points, as VOC 2007)"
    totals = {
        "accuracy": scored.accuracy,
        "mean class accuracy": scored.mean_class_accuracy,
        "mean average precision": scored.mean_precision,
    }
    rows = [
        (name, f"{_percent(value)} %{kind if name.endswith('precision') else ''}")
        for name, value in totals.items()
        if value is not None
    ]
    yield from aligned(rows)
    yield ""
    is_one = scored.accuracy is not None
    heads = ("class", "images", *(("accuracy",) if is_one else ()), "AP")
    cells = [heads]
    for name, each in zip(task.classes, scored.classes, strict=True):
        accuracy = (_percent(each.accuracy),) if is_one else ()
        cells.append((shown(name), str(each.images), *accuracy, _percent(each.precision)))
    yield from aligned(cells, right=(1, 2, 3))
    if scored.confusions:
        yield ""
        yield "most often taken for another"
        worst = [
            (str(times), f"of {scored.classes[i].images}", f"{_name(seen, i)} for {_name(seen, j)}")
            for i, j, times in scored.confusions[:CONFUSIONS_SHOWN]
        ]
        yield from (f"  {line}" for line in aligned(worst, right=(0,)))


def _name(seen: _Seen, index: int) -> str:
    return shown(seen.task.classes[index])


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f}"


def _as_dict(seen: _Seen) -> dict[str, object]:
    task, scored = seen.task, seen.scored
    found: dict[str, object] = {
        "fit": {
            "file": task.fit.path,
            "split": task.fit.split,
            "images": len(task.fit.labels),
            "numbers": task.fit.features.shape[1],
        },
        "classes": list(task.classes),
        "chosen_by": seen.measure,
        "trials": [
            {"c": t.c, "scores": list(t.scores), "mean": t.mean, "unconverged": t.unconverged}
            for t in seen.trials
        ],
        "c": seen.model.c,
        "unconverged": seen.model.unconverged,
        "ap": seen.precision,
    }
    if scored is not None and task.test is not None:
        found["test"] = {
            "file": task.test.path,
            "split": task.test.split,
            "images": scored.images,
            "accuracy": scored.accuracy,
            "mean_class_accuracy": scored.mean_class_accuracy,
            "mean_average_precision": scored.mean_precision,
            "of_classes": [
                {"class": name, "images": c.images, "accuracy": c.accuracy, "ap": c.precision}
                for name, c in zip(task.classes, scored.classes, strict=True)
            ],
            "confusions": [
                {"class": task.classes[i], "taken_for": task.classes[j], "images": times}
                for i, j, times in scored.confusions
            ],
        }
    return found
