"""``vggspec eval``: a net's errors on a data set, or those of several nets together."""

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.costs import Cost, samples
from vggspec.cli.evaluating import (
    Evaluation,
    columns_of,
    effort_of,
    evaluated,
    percent,
    running_options,
    say_notes,
    say_question,
    way_name,
)
from vggspec.cli.options import resize_option, scales_option
from vggspec.cli.table import aligned, scaled
from vggspec.cli.targets import check_folder
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from vggspec.base.recipe import Resize, TestProtocol
    from vggspec.bundle.manifest import Bundle, Manifest
    from vggspec.compiler.bundles.variant import Changes
    from vggspec.studies.evaluation.question import Question, Step

MAX_CROPS = 64  # a side, as in a manifest
INDEX, RESULTS = "index.html", "results.json"


def grid_side(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """``5x5`` as a number."""
    if value is None:
        return None
    sides = re.fullmatch(r"(\d{1,3})(?:[x×](\d{1,3}))?", value, re.IGNORECASE)
    if sides is None or sides[2] not in (None, sides[1]) or not 1 <= int(sides[1]) <= MAX_CROPS:
        raise click.BadParameter(f"{value!r} is not a square grid such as 5x5.")
    return int(sides[1])


@click.command(
    "eval",
    epilog="""\b
Examples:
  vggspec eval D --data ILSVRC
  vggspec eval D --data ILSVRC --scales 256,384,512 --dense --crops 5x5
  vggspec eval D E --data ILSVRC --scales 256,384,512 --table
  vggspec eval D --data ILSVRC --scales 256,384,512 --explain
  vggspec eval D --data ILSVRC --report D-report --procs 4""",
)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option(
    "--data", "folder", required=True, metavar="DIR", help="Class folders or shards, to test on."
)
@scales_option
@resize_option
@click.option("--dense/--no-dense", default=None, help="Apply the net to the whole image.")
@click.option(
    "--crops",
    callback=grid_side,
    metavar="5x5",
    help="Take crops on a grid; with --dense as well.  [default: both as the spec's `test:` says]",
)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Average with the mirror image.  [default: as the spec's `test:` says]",
)
@click.option(
    "--average",
    type=click.Choice(["scores", "posteriors"]),
    help="What is averaged over space.  [default: as the bundle was compiled]",
)
@click.option(
    "--pool",
    type=click.Choice(["floor", "ceil"]),
    help="How poolings round; Caffe rounds up.  [default: as the bundle was compiled]",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="N",
    help="Pixels between positions of the score map: 32, 16 or 8 for D.  [default: as the bundle "
    "was compiled]",
)
@click.option(
    "--enlarge",
    is_flag=True,
    help="Where the net's window does not fit at a scale, take the next larger one that it fits.",
)
@click.option(
    "--table",
    "is_table",
    is_flag=True,
    help="Tell each net at each scale, at all, densely, by crops, both, and all nets together.",
)
@running_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every image's result.")
@click.option("--report", metavar="DIR", help="Write a page about it, with the worst mistakes.")
@click.option("--explain", is_flag=True, help="Show what would be computed, and run nothing.")
def command(
    bundles: tuple[str, ...],
    *,
    folder: str,
    scales: tuple[int, ...] | None,
    resize: "Resize | None",
    dense: bool | None,
    crops: int | None,
    flip: bool | None,
    average: str | None,
    pool: str | None,
    stride: int | None,
    enlarge: bool,
    is_table: bool,
    as_json: bool,
    report: str | None,
    explain: bool,
    **running: Any,
) -> None:
    """Test nets on a data set: their top-1 and top-5 error, in percent.

    An image is rescaled to each Q; the posteriors of what is seen of it are averaged, as in section
    3.2 of the paper. Several nets are fused by averaging theirs. What is not given is as the
    spec's `test:` section says.

    The results are the same to the last digit whatever the batches, threads and processes.
    """
    from pathlib import Path

    from vggspec.bundle.manifest import open_bundle
    from vggspec.data.labelled import open_labelled
    from vggspec.studies.evaluation.question import ask, names_of, table

    if report is not None:
        check_folder(report)
    effort = effort_of(running)
    opened = [open_bundle(each, deep=True) for each in bundles]
    with contextlib.ExitStack() as stack:
        changes = _changes(average, pool, stride)
        asked = [_varied(each, changes, stack) for each in opened]
        protocols = [
            _protocol(each.manifest, scales, resize=resize, dense=dense, crops=crops, flip=flip)
            for each in asked
        ]
        images = open_labelled(Path(folder), effort.split)
        question, assumed = ask(
            asked,
            protocols,
            images,
            names=names_of(opened),  # of variants they would be those of hidden folders
            limit=effort.limit,
            enlarge=enlarge,
            device=effort.effort.device,
            threads=effort.effort.threads,
            batch_pixels=effort.effort.batch_pixels,
        )
        if is_table:
            question = replace(question, settings=table(question.nets))
        if explain:
            say_notes(images)
            _explain(question)
            return
        say_question(question, str(images.folder), effort)
        say_notes(images)
        if assumed is not None:
            say("note", assumed)
        with evaluated(question, effort) as found:
            _say_left_out(found)
            if as_json:
                click.echo(json.dumps(as_data(found, bundles), indent=2))
            else:
                click.echo("\n".join(in_table(found)))
            if report is not None:
                _write_report(report, found, bundles, str(images.folder))


def _changes(average: str | None, pool: str | None, stride: int | None) -> "Changes | None":
    """What is to be other than the bundles were compiled; None where nothing is."""
    if average is None and pool is None and stride is None:
        return None
    from vggspec.compiler.bundles.variant import Changes

    return Changes(average=average, pool=pool, stride=stride)  # type: ignore[arg-type]


def _varied(bundle: "Bundle", changes: "Changes | None", stack: contextlib.ExitStack) -> "Bundle":
    if changes is None:
        return bundle
    from vggspec.compiler.bundles.variant import varied

    found = stack.enter_context(varied(bundle, changes))
    if found is not bundle and bundle.manifest.engine is not None:
        say("note", f"{bundle.path} is compiled anew in fp32 for that, not as its engine was built")
    return found


def _protocol(
    manifest: "Manifest",
    scales: tuple[int, ...] | None,
    *,
    resize: "Resize | None",
    dense: bool | None,
    crops: int | None,
    flip: bool | None,
) -> "TestProtocol":
    """As a ``test:`` section is read: crops alone are instead of the whole image."""
    test = manifest.test
    if dense is None and crops is None:
        dense, crops = test.dense, test.crops
    elif dense is None:
        dense = False
    elif not dense and crops is None:
        crops = test.crops or 1
    return replace(
        test,
        scales=test.scales if scales is None else scales,
        dense=dense,
        crops=crops,
        flip=test.flip if flip is None else flip,
        average=manifest.average,
        resize=resize or test.resize,
    )


def in_table(found: Evaluation) -> list[str]:
    """A line a setting, then how many images they are about."""
    question, tally = found.question, found.tally
    rows = [("net", "Q", "evaluation", "top-1 error", f"top-{question.top} error")]
    for setting, errors in zip(question.settings, tally.settings, strict=True):
        net, scales, ways = columns_of(question, setting)
        top1 = percent(errors.top1_error, errors.images)
        top5 = percent(errors.top5_error, errors.images)
        rows.append((shown(net), scales, ways, top1, top5))
    classes = count(len(tally.by_class), "class")
    return [*aligned(rows, right=(3, 4)), f"{count(tally.images, 'image')} of {classes}"]


def as_data(found: Evaluation, bundles: Sequence[str]) -> dict[str, Any]:
    """Everything that was found, for JSON; ``bundles`` are the nets' as they were given."""
    from vggspec.studies.evaluation.answers import kind_of

    question, tally = found.question, found.tally
    value = "posterior" if kind_of(question) == "posteriors" else "score"
    labels = question.labels
    settings = []
    for setting, errors in zip(question.settings, tally.settings, strict=True):
        net, scales, ways = columns_of(question, setting)
        settings.append(
            {
                "name": f"{net}, Q {scales}, {ways}",
                "parts": [
                    {**asdict(part), "net": question.nets[part.net].name} for part in setting.parts
                ],
                "top1_errors": errors.top1,
                "top1_error": errors.top1_error,
                "top5_errors": errors.top5,
                "top5_error": errors.top5_error,
            }
        )
    return {
        "nets": [
            {"name": each.name, "bundle": bundle, "protocol": asdict(each.protocol)}
            for each, bundle in zip(question.nets, bundles, strict=True)
        ],
        "images": tally.images,
        "top": question.top,
        "settings": settings,
        "classes": [
            {"label": labels[i], "index": i, "images": one.images, "top1_errors": one.top1}
            | {"top5_errors": one.top5}
            for i, one in sorted(tally.by_class.items())
        ],
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
            for one in found.results
            if one.unread is None
        ],
    }


def _say_left_out(found: Evaluation) -> None:
    names = found.tally.left_out_names()
    if names:
        lines = "".join(f"\n  {shown(name)}" for name in names)
        text = f"{count(len(names), 'image')} could not be read, left out:{lines}"
        click.echo(text, err=True)


def _write_report(folder: str, found: Evaluation, bundles: Sequence[str], source: str) -> None:
    from pathlib import Path

    from vggspec.base.files import write_files
    from vggspec.studies.evaluation.report import Told, page

    question = found.question
    told = [
        Told(*columns_of(question, setting), errors)
        for setting, errors in zip(question.settings, found.tally.settings, strict=True)
    ]
    text = page(question, found.tally, found.results, told, source=source)
    write_files(folder, {RESULTS: json.dumps(as_data(found, bundles), indent=2), INDEX: text})
    say("report", str(Path(folder) / INDEX))


# The plan.


def _explain(question: "Question") -> None:
    """What happens to an image of the median size, and in all."""
    from vggspec.studies.evaluation.question import plan

    sample = samples(question)
    if not sample:
        raise click.ClickException("none of the images looked at can be read")
    size = sample[len(sample) // 2].size
    steps = plan(question, size)
    cost = Cost(question)
    click.echo(
        f"An image of {size[0]} × {size[1]} pixels, the median of {len(sample)},"
        " is read and decoded once."
    )
    click.echo()
    rows = [("Q", "rescaled to", "net", "evaluation", "inputs", "positions", "MACs")]
    before: tuple[object, ...] = ()
    for step in sorted(steps, key=lambda step: _order(question, step)):
        asked = question.nets[step.net]
        head = str(step.look.scale), _times(step.rescaled)
        net = asked.name
        rows.append(
            (
                *(("", "") if before[:2] == head else head),
                "" if before == (*head, net) else shown(net),
                way_name(asked, step.look.way),
                f"{step.inputs} × {_times(step.size)}",
                _positions(question, step),
                scaled(cost.of(step)),
            )
        )
        before = (*head, net)
    for line in aligned(rows, right=(0, 6)):
        click.echo(f"  {line}")
    click.echo()
    macs = sum(cost.of(step) for step in steps)
    inputs = sum(step.inputs for step in steps)
    total = scaled(macs * len(question.indices), "MAC")
    click.echo(f"{count(inputs, 'input')} and {scaled(macs, 'MAC')} an image;", nl=False)
    click.echo(f" {total} for {count(len(question.indices), 'image')} of that size.")
    click.echo(_shared(question))
    if len(question.settings) > 1:
        click.echo(f"Of these posteriors {len(question.settings)} averages are told:")
        for setting in question.settings:
            net, scales, ways = columns_of(question, setting)
            click.echo(f"  {shown(net)}, Q {scales}, {ways}")


def _order(question: "Question", step: "Step") -> tuple[int, int, int]:
    scales = list(dict.fromkeys(q for each in question.nets for q in each.protocol.scales))
    return scales.index(step.look.scale), step.net, int(step.look.way == "crops")


def _positions(question: "Question", step: "Step") -> str:
    """Of the score map, one where the net gives one answer."""
    view = question.nets[step.net].view
    if step.look.way != "dense":
        return "1"
    sides = (
        max(0, (side - window) // stride) + 1
        for side, window, stride in zip(step.size, view.window, view.stride, strict=True)
    )
    return _times(tuple(sides))


def _shared(question: "Question") -> str:
    from vggspec.studies.pipeline import BATCH_PIXELS, ROUND_IMAGES

    together = "Inputs of the same shape go through a net together"
    if any(each.protocol.flip for each in question.nets):
        together += ", an image with its mirror image"
    most = f"up to {question.batch_pixels} pixels a batch"
    if question.batch_pixels is None:
        cpu, gpu = BATCH_PIXELS["cpu"], BATCH_PIXELS["cuda"]
        most = f"up to {cpu} pixels a batch on a CPU, {gpu} on a GPU"
    return f"{together};\n{most}, of {ROUND_IMAGES} images at a time or fewer."


def _times(sides: tuple[int, ...]) -> str:
    return " × ".join(map(str, sides))
