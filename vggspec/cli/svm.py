"""``vggspec svm``: a linear SVM fitted on features, and how well it tells classes apart."""

import json
import math
from typing import TYPE_CHECKING, cast

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.progress import shown as shown_progress
from vggspec.cli.table import print_table, print_text
from vggspec.cli.targets import check_spared
from vggspec.cli.terminal import complain, wide_option

if TYPE_CHECKING:
    from vggspec.studies.features.fit_svm import SvmResult
    from vggspec.studies.features.linear_svm import ApKind, Scores

CONFUSIONS_SHOWN = 5


def _numbers(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """``0.1,1`` as numbers, ascending."""
    if value is None:
        return None
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
    help="Features to test on: the split `val`, or the only one.  [default: `val` of the same "
    "file]",
)
@click.option(
    "--c",
    "cs",
    callback=_numbers,
    metavar="C,...",
    help="Values to choose C from: larger values penalise misclassified images more.  "
    "[default: 0.01,0.1,1,10,100]",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    metavar="N",
    help="Folds of the cross-validation.  [default: 5]",
)
@click.option(
    "--ap",
    type=click.Choice(["area", "voc07"]),
    default="area",
    help="Average precision: over the true images, or over eleven recalls as in VOC until 2009.  "
    "[default: area]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    metavar="N",
    help="Seed of the folds.  [default: 0]",
)
@click.option(
    "-o", "--out", metavar="FILE", help="Write the model: safetensors with `weights` and `bias`."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@wide_option
def command(
    features: str,
    *,
    test: str | None,
    cs: tuple[float, ...] | None,
    folds: int,
    ap: str,
    seed: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Fit a linear SVM on the descriptors that `vggspec features` wrote, and test it.

    The SVM separates each class from the rest. It is fitted on the split `train`, or on the only
    split. C is chosen by cross-validation: by accuracy, or by mean average precision if images
    have several classes.
    """
    if out is not None:
        check_spared([out], [features, test])
    from vggspec.studies.features.fit_svm import DEFAULT_C, fit_svm

    with shown_progress() as watch:
        result = fit_svm(
            features,
            test=test,
            cs=cs or DEFAULT_C,
            folds=folds,
            ap=cast("ApKind", ap),
            seed=seed,
            watch=watch,
        )
    if as_json:
        click.echo(json.dumps(result.as_data(), indent=2))
    else:
        _print(result)
    for warning in result.warnings:
        complain(warning, "warning")
    if out is not None:  # last, so that a full disk does not withhold the result
        result.save(out)


def _print(result: "SvmResult") -> None:
    fit = result.data.fit
    images = count(len(fit.labels), "image")
    classes = count(len(result.data.classes), "class")
    numbers = f"{fit.features.shape[1]} numbers each"
    print_text(f"fitted on `{shown(fit.split)}`: {images} of {classes}, {numbers}")
    click.echo()
    folds = len(result.candidates[0].scores)
    rows = [("C", result.chosen_by, f"{folds} folds")]
    for each in result.candidates:
        mark = " *" if each.c == result.model.c else ""
        mean = f"{100 * each.mean:.1f} ± {100 * each.spread:.1f} %{mark}"
        rows.append((f"{each.c:g}", mean, " ".join(f"{100 * one:.1f}" for one in each.scores)))
    print_table(rows, right=(0,))
    if result.scores is not None:
        click.echo()
        _print_scores(result, result.scores)


def _print_scores(result: "SvmResult", scores: "Scores") -> None:
    test, names = result.data.test, [shown(name) for name in result.data.classes]
    assert test is not None
    print_text(f"tested on `{shown(test.split)}`: {count(scores.images, 'image')}")
    click.echo()
    kind = "" if result.ap == "area" else "  (11 points, as VOC 2007)"
    totals = {
        "accuracy": scores.accuracy,
        "mean class accuracy": scores.mean_class_accuracy,
        "mean average precision": scores.mean_average_precision,
    }
    print_table(
        [
            (name, f"{_percent(value)} %{kind if name.endswith('precision') else ''}")
            for name, value in totals.items()
            if value is not None
        ],
        bold=(),
    )
    click.echo()
    has_accuracy = scores.accuracy is not None
    rows = [("class", "images", *(("accuracy",) if has_accuracy else ()), "AP")]
    for name, each in zip(names, scores.classes, strict=True):
        accuracy = (_percent(each.accuracy),) if has_accuracy else ()
        rows.append((name, str(each.images), *accuracy, _percent(each.average_precision)))
    print_table(rows, right=(1, 2, 3))
    if scores.confusions:
        click.echo()
        click.echo("most frequent confusions")
        worst = [
            (f"  {images}", f"of {scores.classes[i].images}", f"{names[i]} for {names[j]}")
            for i, j, images in scores.confusions[:CONFUSIONS_SHOWN]
        ]
        print_table(worst, right=(0,), bold=())


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f}"
