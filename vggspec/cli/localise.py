"""``vggspec localise``: where objects are on images, told and drawn; or how often that is wrong."""

import contextlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.computing import (
    computing_of,
    computing_options,
    go_through,
    journal_of,
    limit_option,
)
from vggspec.cli.eval import grid_side
from vggspec.cli.evaluating import percent, say_notes
from vggspec.cli.options import resize_option, scales_option
from vggspec.cli.pictures import check_targets, class_index, show_error, target_of
from vggspec.cli.table import aligned
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vggspec.base.recipe import Resize, TestProtocol
    from vggspec.bundle.manifest import Bundle
    from vggspec.data.annotated import Annotated
    from vggspec.studies.localisation.errors import LocalisationTally, Verdict
    from vggspec.studies.localisation.localise import Ensemble, Localiser, Located, Method, Place
    from vggspec.studies.tasks.work import Effort

TOP_DRAWN, TOP_JUDGED = 1, 5
CLASSES_SHOWN = 24  # of a data set, those with the largest error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What the command line says."""

    bundle: str
    images: tuple[str, ...]
    more: tuple[str, ...]
    classifiers: tuple[str, ...]
    scales: tuple[int, ...] | None
    resize: "Resize | None"
    flip: bool | None
    crops: int | None
    stride: int | None
    enlarge: bool
    label: str | None
    classes: int | None
    match: float | None
    literal: bool
    out: str | None
    as_json: bool
    folder: str | None
    split: str
    limit: int | None
    least_iou: float | None


@click.command(
    "localise",
    epilog="""\b
Examples:
  vggspec localise SCR photo.jpg -o boxes.png
  vggspec localise PCR photo.jpg --class "king penguin" -o boxes.png
  vggspec localise PCR photos/*.jpg --classifier D --classes 3 -o "boxes/{name}.png"
  vggspec localise PCR-256 photo.jpg --with PCR-384 --classifier D --scales 352,384 --json
  vggspec localise PCR --data VOC2012
  vggspec localise PCR --classifier D --data VOC2012 --scales 384,512 --procs 4""",
)
@click.argument("bundle")
@click.argument("images", nargs=-1, metavar="IMAGE...")
@click.option(
    "--with", "more", multiple=True, metavar="BUNDLE", help="One more net of boxes; repeatable."
)
@click.option(
    "--classifier",
    "classifiers",
    multiple=True,
    metavar="BUNDLE",
    help="A net that says which classes there are; several are fused.",
)
@scales_option
@resize_option
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Look at the mirror image too.  [default: as the spec's `test:` says]",
)
@click.option(
    "--crops",
    callback=grid_side,
    metavar="5x5",
    help="With a classifier, see crops on a grid.  [default: as the spec's `test:` says]",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="N",
    help="With a classifier, pixels from one window to the next: 32, 16 or 8 for D.  [default: as "
    "the bundles were compiled]",
)
@click.option(
    "--enlarge",
    is_flag=True,
    help="Where the net's window does not fit at a scale, take the next larger one that it fits.",
)
@click.option("--class", "label", metavar="NAME", help="The class to find, by label or index.")
@click.option(
    "--classes",
    type=click.IntRange(1),
    metavar="K",
    help="With a classifier, find that many of the likeliest.  [default: 1; 5 with `--data`]",
)
@click.option(
    "--match",
    type=click.FloatRange(min=0),
    metavar="T",
    help="Merge boxes whose match score is at most T: 0 for equal ones, 1 and more where they "
    "share nothing.  [default: 0.6]",
)
@click.option(
    "--literal",
    is_flag=True,
    help="Match boxes by the formula that OverFeat prints; T is in pixels then, and wanted.",
)
@click.option(
    "-o", "out", metavar="FILE", help="Draw the boxes; `{name}` stands for the image's name."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--data",
    "folder",
    metavar="DIR",
    help="Instead of images: annotated ones, as VOC or COCO write them, to tell the error on.",
)
@click.option("--split", default="val", metavar="NAME", help="Which images of DIR.  [default: val]")
@limit_option
@click.option(
    "--iou",
    "least_iou",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="SHARE",
    help="A box is right when it shares more than this with a true one.  [default: 0.5]",
)
@computing_options
def command(**options: Any) -> int:
    """Say where objects are, by nets that end in boxes.

    Without a classifier each net sees the central window of the image. With one, all windows: the
    boxes of its likeliest classes are merged, and the ones whose windows look most like the class
    are told.
    """
    names = [each.name for each in fields(_Given)]
    given = _Given(**{name: options.pop(name) for name in names})
    _check_usage(given, options)
    computing = computing_of(options)
    from vggspec.bundle.manifest import open_bundle

    with contextlib.ExitStack() as stack:
        opened = [open_bundle(each, deep=True) for each in (given.bundle, *given.more)]
        judges = [open_bundle(each, deep=True) for each in given.classifiers]
        method = _method(given, computing, opened[0])
        is_dense = method.protocol.dense or method.protocol.crops is None
        nets = [_varied(each, given.stride, stack, keep_map=False) for each in opened]
        classifiers = [_varied(each, given.stride, stack, keep_map=is_dense) for each in judges]
        if given.folder is None:
            return _locate(given, _loaded(nets, classifiers, method, computing, stack))
        _evaluate(given, given.folder, nets, classifiers, method, computing)
        return 0


def _loaded(
    nets: "Sequence[Bundle]",
    classifiers: "Sequence[Bundle]",
    method: "Method",
    computing: "Effort",
    stack: contextlib.ExitStack,
) -> "Localiser":
    from vggspec.runtime.net import BundleNet
    from vggspec.studies.localisation.localise import Localiser

    loaded = [
        [
            stack.enter_context(BundleNet(each, device=computing.device, threads=computing.threads))
            for each in some
        ]
        for some in (nets, classifiers)
    ]
    return Localiser(loaded[0], loaded[1], method)


def _check_usage(given: _Given, running: dict[str, Any]) -> None:
    if given.folder is None:
        if not given.images:
            raise click.UsageError("Name images after the bundle, or `--data DIR` to test it on.")
        if given.limit is not None or given.least_iou is not None or given.split != "val":
            raise click.UsageError("`--split`, `--limit` and `--iou` go with `--data DIR`.")
        if running["resume"] or running["procs"] or running["gpus"]:
            raise click.UsageError("`--resume`, `--procs` and `--gpus` go with `--data DIR`.")
    elif given.images:
        raise click.UsageError(
            f"`--data` takes no images: {shown(given.images[0])} is one too many. "
            "Further nets are named by `--with BUNDLE`."
        )
    elif given.out is not None or given.label is not None:
        raise click.UsageError("`-o` and `--class` go with images, not with `--data`.")
    if not given.classifiers:
        for value, option in (
            (given.crops, "--crops"),
            (given.stride, "--stride"),
            (given.classes, "--classes"),
            (given.match, "--match"),
        ):
            if value is not None:
                raise click.UsageError(f"`{option}` goes with `--classifier BUNDLE`.")
    if given.literal and given.match is None:
        raise click.UsageError("`--literal` wants `--match T`, in pixels.")
    if given.label is not None and given.classes is not None:
        raise click.UsageError("Give `--class` or `--classes`, not both.")
    if given.out is not None:
        check_targets(given.out, given.images, kind="picture", option="-o")


def _method(given: _Given, computing: "Effort", bundle: "Bundle") -> "Method":
    from vggspec.studies.localisation.localise import MATCH, Method

    test = bundle.manifest.test
    protocol = replace(
        test,
        scales=test.scales if given.scales is None else given.scales,
        flip=test.flip if given.flip is None else given.flip,
        resize=given.resize or test.resize,
        dense=test.dense if given.crops is None else False,
        crops=test.crops if given.crops is None else given.crops,
    )
    return Method(
        protocol=protocol,
        top=given.classes or (TOP_DRAWN if given.folder is None else TOP_JUDGED),
        match=MATCH if given.match is None else given.match,
        literal=given.literal,
        enlarge=given.enlarge,
        threads=computing.threads,
        batch_pixels=computing.batch_pixels,
    )


def _varied(
    bundle: "Bundle", stride: int | None, stack: contextlib.ExitStack, *, keep_map: bool
) -> "Bundle":
    """The bundle with another stride, and with its score map where that is wanted."""
    manifest = bundle.manifest
    lacks_map = keep_map and manifest.score_map is None and manifest.form == "dense"
    if stride is None and not (lacks_map and manifest.result.kind == "posteriors"):
        return bundle
    from vggspec.compiler.bundles.variant import Changes, varied

    changes = Changes(stride=stride, keep_map=True if lacks_map else None)
    found = stack.enter_context(varied(bundle, changes))
    if found is not bundle and manifest.engine is not None:
        say("note", f"{bundle.path} is compiled anew in fp32 for that, not as its engine was built")
    return found


# Images.


def _locate(given: _Given, localiser: "Localiser") -> int:
    from vggspec.base.catalogue.localising import ClassWanted, NotLookedAt
    from vggspec.base.diagnostic import VggspecError, report

    if given.label is None and localiser.needs_class:
        raise VggspecError(report(ClassWanted(labels=_names(localiser)), path=given.bundle))
    if given.label is not None and localiser.num_classes is None:
        raise click.UsageError(
            "The net has one box for all classes; `--class` goes with `--classifier BUNDLE`."
        )
    asked: list[int | None] = []
    if given.label is not None:
        asked = [class_index(_names(localiser), given.label)]
    elif not given.classifiers:
        asked = [None]
    results: list[dict[str, Any]] = []
    num_bad = 0
    found = localiser(lambda i: _read(given.images[i]), range(len(given.images)), lambda _: asked)
    for one in found:
        name = given.images[one.index]
        if one.unread is not None:
            num_bad += 1
            show_error(VggspecError(report(NotLookedAt(why=one.unread), path=name)))
            continue
        places = one.asked or one.likeliest
        if given.out is not None:
            _draw(name, places, _names(localiser), target_of(given.out, name))
        if given.as_json:
            results.append(_as_data(name, one, places, _names(localiser)))
        else:
            click.echo("\n".join(_as_text(name, places, _names(localiser))))
    if given.as_json:
        click.echo(json.dumps(results, indent=2))
    return 1 if num_bad else 0


def _read(name: str) -> bytes:
    """The content of an image file that was named.

    Raises:
        BadImageError: it cannot be read.
    """
    from vggspec.base.opening import read_file
    from vggspec.base.wording import reason
    from vggspec.bundle.manifest import MANIFEST
    from vggspec.data.decode import BadImageError
    from vggspec.data.read import MAX_FILE_BYTES

    if Path(name, MANIFEST).is_file():
        raise BadImageError("it is a bundle; further nets are named by `--with`")
    try:
        return read_file(name, MAX_FILE_BYTES)
    except OSError as error:
        raise BadImageError(reason(error)) from error


def _names(localiser: "Localiser") -> tuple[str, ...]:
    """What classes are called."""
    return localiser.labels or tuple(f"class {i}" for i in range(localiser.num_classes or 0))


def _draw(name: str, places: "Iterable[Place]", labels: tuple[str, ...], target: str) -> None:
    from vggspec.base.files import replacing_file
    from vggspec.data.read import read_image
    from vggspec.studies.localisation.draw import Drawn, draw

    boxes = [
        Drawn(box=place.box, text=_caption(place, labels))
        for place in places
        if place.box is not None
    ]
    # Read anew: in colour, even where the nets saw it in gray.
    picture = draw(read_image(name), boxes)
    with replacing_file(target) as file:
        picture.save(file, format="PNG")


def _caption(place: "Place", labels: tuple[str, ...]) -> str:
    label = "" if place.label is None else labels[place.label]
    return label if place.posterior is None else f"{label}  {place.posterior:.1%}"


def _as_text(name: str, places: "Iterable[Place]", labels: tuple[str, ...]) -> list[str]:
    rows = [("left", "top", "right", "bottom", "", "")]
    for place in places:
        sides = ["-"] * 4 if place.box is None else [f"{side:.1f}" for side in place.box]
        posterior = "" if place.posterior is None else f"{place.posterior:.2%}"
        label = "" if place.label is None else shown(labels[place.label])
        rows.append((sides[0], sides[1], sides[2], sides[3], posterior, label))
    lines = aligned(rows, right=range(5))
    return [shown(name), *(f"  {line}" for line in lines)]


def _as_data(
    name: str, found: "Located", places: "Iterable[Place]", labels: tuple[str, ...]
) -> dict[str, Any]:
    rows, columns = found.size
    boxes = [_place_as_data(place, labels) for place in places]
    return {"file": name, "width": columns, "height": rows, "boxes": boxes}


def _place_as_data(place: "Place", labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "label": None if place.label is None else labels[place.label],
        "index": place.label,
        "posterior": place.posterior,
        "score": place.score,
        "windows": place.windows,
        "box": None if place.box is None else place.box.tolist(),
    }


# Data sets.


def _evaluate(
    given: _Given,
    folder: str,
    nets: "Sequence[Bundle]",
    classifiers: "Sequence[Bundle]",
    method: "Method",
    computing: "Effort",
) -> None:
    from vggspec.cli.pacing import pacing
    from vggspec.data.annotated import open_annotated
    from vggspec.data.boxes import RIGHT_IOU
    from vggspec.studies.evaluation.question import spread
    from vggspec.studies.localisation.errors import LocalisationTally, judge
    from vggspec.studies.localisation.localise import Ensemble
    from vggspec.studies.localisation.locating import Locating

    ensemble = Ensemble(nets, classifiers, method)
    data = open_annotated(Path(folder), given.split, pacing=pacing)
    classes, labels, assumed = _classes(given, ensemble, data)
    indices = spread(len(data), given.limit)
    task = Locating(
        nets=tuple(nets),
        classifiers=tuple(classifiers),
        method=method,
        data=data,
        classes=classes,
        indices=indices,
        device=computing.device,
    )
    least_iou = RIGHT_IOU if given.least_iou is None else given.least_iou
    _say_question(given, ensemble, data, len(indices))
    say_notes(data)
    if assumed is not None:
        say("note", assumed)
    tally = LocalisationTally(total=len(indices))
    told: list[tuple[Located, Verdict]] = []

    def take(one: "Located") -> None:
        verdict = judge(one, data, classes, least_iou)
        tally.add(verdict, data.name)
        if given.as_json:
            told.append((one, verdict))

    with journal_of(task, computing) as kept:
        go_through(task, kept, computing, take, doing="localising")
        told.sort(key=lambda each: each[0].index)
        _tell(given, ensemble, data, labels, tally, told)
        if kept is not None:
            kept.clear()


def _classes(
    given: _Given, ensemble: "Ensemble[Bundle]", data: "Annotated"
) -> tuple[tuple[int, ...], tuple[str, ...], str | None]:
    """The nets' class for each class of the data, the names of theirs, and what was assumed."""
    from vggspec.data.annotated import Examples
    from vggspec.data.labelled import Labelled
    from vggspec.studies.evaluation.question import match_classes

    number = ensemble.num_classes
    if number is None:
        return tuple(range(len(data.classes))), data.classes, None
    examples = Labelled(
        folder=data.root,
        classes=data.classes,
        images=Examples(data),
        stamp=data.stamp,
    )
    classes, assumed = match_classes(examples, ensemble.labels, number, net=given.bundle)
    labels = ensemble.labels or tuple(
        data.classes[classes.index(i)] if i in classes else f"class {i}" for i in range(number)
    )
    return classes, labels, assumed


def _tell(
    given: _Given,
    ensemble: "Ensemble[Bundle]",
    data: "Annotated",
    labels: tuple[str, ...],
    tally: "LocalisationTally",
    told: "Sequence[tuple[Located, Verdict]]",
) -> None:
    left_out = [
        {"file": data.name(index), "why": why} for index, why in sorted(tally.left_out.items())
    ]
    for each in left_out:
        say("note", shown(f"{each['file']} was left out: {each['why']}"))
    if given.as_json:
        results = [_result_as_data(*each, data, labels) for each in told if each[1].unread is None]
        about = _tally_as_data(given, ensemble, tally, labels, left_out, results)
        click.echo(json.dumps(about, indent=2))
    else:
        click.echo("\n".join(_tally_in_table(given, ensemble, tally, labels)))


def _say_question(
    given: _Given, ensemble: "Ensemble[Bundle]", data: "Annotated", num_images: int
) -> None:
    bundles = (given.bundle, *given.more)
    say("net" if len(bundles) == 1 else "nets", ", ".join(map(shown, bundles)))
    if given.classifiers:
        say("by", ", ".join(map(shown, given.classifiers)))
    say("data", f"{data.root}, {count(num_images, 'image')} of {given.split}")
    protocol = ensemble.protocol
    mirrored = "with" if protocol.flip else "without"
    scales = ", ".join(map(str, protocol.scales))
    say("test", f"Q {scales}, {_way(given, protocol)}, {mirrored} mirror images")
    if data.left_out:
        say("note", f"{count(len(data.left_out), 'image')} left out for bad annotations")


def _way(given: _Given, protocol: "TestProtocol") -> str:
    if not given.classifiers:
        return "central"
    if protocol.crops is None:
        return "dense"
    crops = f"crops {protocol.crops}×{protocol.crops}"
    return f"dense, {crops}" if protocol.dense else crops


def _tally_in_table(
    given: _Given, ensemble: "Ensemble[Bundle]", tally: "LocalisationTally", labels: tuple[str, ...]
) -> list[str]:
    """The classes with the largest errors, then all images by each way of counting."""
    by_error = sorted(tally.by_class.items(), key=lambda each: (-each[1].error, each[0]))
    kept = dict(by_error[:CLASSES_SHOWN])
    rows = [("class", "images", "error")]
    rows += [
        (shown(labels[i]), str(one.answers), percent(one.error, one.answers))
        for i, one in sorted(kept.items())
    ]
    lines = aligned(rows, right=(1, 2))
    if len(by_error) > len(kept):
        lines.append(f"and {len(by_error) - len(kept)} with smaller errors")
    protocol = ensemble.protocol
    scales = ", ".join(map(str, protocol.scales))
    counts = [("class given", tally.given)]
    if given.classifiers:
        top = min(given.classes or TOP_JUDGED, ensemble.num_classes or TOP_JUDGED)
        counts = [("top-1", tally.top1), (f"top-{top}", tally.top5), *counts]
    totals = [("Q", "evaluation", *(f"{name} error" for name, _ in counts))]
    totals.append(
        (
            scales,
            _way(given, protocol),
            *(percent(one.error, one.answers) for _, one in counts),
        )
    )
    lines += ["", *aligned(totals, right=range(2, 5))]
    return [*lines, f"{count(tally.images, 'image')} of {count(len(tally.by_class), 'class')}"]


def _tally_as_data(
    given: _Given,
    ensemble: "Ensemble[Bundle]",
    tally: "LocalisationTally",
    labels: tuple[str, ...],
    left_out: list[dict[str, str]],
    results: list[dict[str, Any]],
) -> dict[str, Any]:
    errors = {"class_given_error": tally.given.error}
    if given.classifiers:
        errors = {"top1_error": tally.top1.error, "top5_error": tally.top5.error, **errors}
    return {
        "nets": [given.bundle, *given.more],
        "classifiers": list(given.classifiers),
        "protocol": asdict(ensemble.protocol),
        "match": ensemble.method.match if given.classifiers else None,
        "images": tally.images,
        **errors,
        "classes": [
            {"label": labels[i], "index": i, "images": one.answers, "errors": one.wrong}
            for i, one in sorted(tally.by_class.items())
        ],
        "left_out": left_out,
        "results": results,
    }


def _result_as_data(
    found: "Located", verdict: "Verdict", data: "Annotated", labels: tuple[str, ...]
) -> dict[str, Any]:
    rows, columns = found.size
    given = [is_right for _, is_right in verdict.given]
    return {
        "file": data.name(found.index),
        "width": columns,
        "height": rows,
        "likeliest": [
            _place_as_data(place, labels) | {"is_right": is_right}
            for place, is_right in zip(found.likeliest, verdict.likeliest, strict=True)
        ],
        "class_given": [
            _place_as_data(place, labels) | {"is_right": is_right}
            for place, is_right in zip(found.asked, given, strict=True)
        ],
    }
