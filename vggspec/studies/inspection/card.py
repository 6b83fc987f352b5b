"""A model card of a bundle: Markdown with the header that model hubs read.

It says what the manifest knows of the net, its input and its files, and what the run knows of the
data, the recipe and the results. What neither knows, such as the licence, is left out or named as
missing. Strings of both are escaped: a label is no markup.

Source of the header's fields: the model cards of the Hugging Face hub.
"""

import html
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vggspec.base.catalogue.runs import NotOfRun
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.quantities import duration, memory, scaled
from vggspec.base.render import shown
from vggspec.base.run_record import damaged_record, record_fields
from vggspec.base.wording import count
from vggspec.bundle.manifest import WEIGHTS, FileEntry, Manifest
from vggspec.bundle.opening import Bundle, load_bundle
from vggspec.compiler.bundling.net import member_of, network_of
from vggspec.compiler.cost import cost
from vggspec.compiler.ir import Network
from vggspec.compiler.weights import open_weights
from vggspec.studies.inspection.inspection import specs_of
from vggspec.studies.inspection.sections import sections

#: Weights that a run leaves, in the order in which a card names them.
LEFT = ("best", "last")

#: A card lists this many labels, and counts the others.
MOST_LABELS = 100

#: What a hub calls a result; it has no word for boxes.
PIPELINES = {
    "posteriors": "image-classification",
    "scores": "image-classification",
    "posterior_map": "image-segmentation",
    "features": "image-feature-extraction",
    "activations": "image-feature-extraction",
}

#: Characters that mean something within a line of Markdown.
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")

#: An identifier such as ``apache-2.0`` or ``cc-by-nc-4.0``, as in SPDX and on hubs.
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")


def card(
    bundle: str | os.PathLike[str],
    *,
    run: str | os.PathLike[str] | None = None,
    licence: str | None = None,
) -> str:
    """A model card of a bundle, in Markdown.

    ``run`` is the folder of the training run that its weights come from, whose data, recipe and
    results it states; the weights are compared with those of the run. ``licence`` is an identifier
    such as ``apache-2.0``; without one the card says that none is stated.

    Raises:
        VggspecError: it is no bundle; the record of the run is missing or damaged, or the weights
            are not of that run.
        ArgumentError: ``licence`` is not an identifier.
    """
    if licence is not None and not _LICENCE.fullmatch(licence):
        message = f"a licence is an identifier such as apache-2.0, not {licence!r}"
        raise ArgumentError(message)
    trained = None if run is None else _Run(Path(run), record_fields(Path(run)))
    return load_bundle(bundle, lambda opened: _written(opened, trained, licence))


def _written(bundle: Bundle, run: "_Run | None", licence: str | None) -> str:
    manifest = bundle.manifest
    weights = None if run is None else _weights_of(bundle, run)
    name = bundle.path.resolve().name
    parts = [
        _header(manifest, licence),
        f"# {_text(manifest.net)}",
        _summary(bundle),
        "## Usage",
        _usage(manifest, name),
        *_tables(manifest),
    ]
    if run is not None:
        parts += ["## Training", _training(run), "## Results", _results(run, weights)]
    parts += ["## Spec", *(_fenced(text, "text") for text in specs_of(manifest))]
    parts += ["## Licence", f"`{licence}`" if licence else "None is stated."]
    return "\n\n".join(parts) + "\n"


def _header(manifest: Manifest, licence: str | None) -> str:
    lines = ["---", "library_name: vggspec"]
    if licence is not None:
        lines.append(f"license: {licence.lower()}")
    pipeline = PIPELINES.get(manifest.result.kind)
    if pipeline is not None:
        lines.append(f"pipeline_tag: {pipeline}")
    lines += ["tags:", "- vggspec", f"- {'onnx' if manifest.engine is None else 'tensorrt'}", "---"]
    return "\n".join(lines)


def _summary(bundle: Bundle) -> str:
    manifest = bundle.manifest
    members = [(one.net, member_of(bundle, one)) for one in manifest.members]
    nets = members or [(manifest.net, network_of(bundle))]
    lines = [f"{_text(name)}: {_size(network)}" for name, network in nets]
    if len(lines) == 1:
        return f"A convolutional net: {_size(nets[0][1])}"
    return "The posteriors of these nets are averaged:\n\n" + "\n".join(f"- {x}" for x in lines)


def _size(network: Network) -> str:
    found = cost(network)
    layers = len(network.weight_layers)
    image = network.input
    return (
        f"{count(layers, 'weight layer')}, {scaled(found.parameters)} parameters,"
        f" {scaled(found.macs)} multiply-adds for an image of {image.height} × {image.width}"
        " pixels."
    )


def _usage(manifest: Manifest, name: str) -> str:
    kind = manifest.result.kind
    lines = ["import vggspec", "", f"with vggspec.load({name!r}) as net:"]
    if kind in ("posteriors", "scores"):
        value = "probability" if kind == "posteriors" else "score"
        lines += [
            f'    for label, {value} in net("photo.jpg").top(5):',
            f"        print(label, {value})",
        ]
    elif kind == "posterior_map":
        lines += [
            '    for area in net("photo.jpg").areas():',
            "        print(area.label, area.share)",
        ]
    elif kind == "boxes":
        lines.append('    print(net("photo.jpg").boxes)')
    elif kind == "distance":
        lines.append('    print(net.distance("photo.jpg", "other.jpg"))')
    else:
        lines += [
            '    for output, array in net.outputs("photo.jpg").items():',
            "        print(output, array.shape)",
        ]
    return _fenced("\n".join(lines), "python")


def _tables(manifest: Manifest) -> Iterator[str]:
    """What ``inspect`` prints, as tables of Markdown; the first has no title of its own."""
    for i, section in enumerate(sections(manifest)):
        yield f"## {'Net' if i == 0 else section.title.capitalize()}"
        if section.title == "files":
            yield _table([_file(entry) for entry in manifest.files])
        else:
            yield _table([tuple(map(_text, row)) for row in section.rows])
        if i == 0 and manifest.labels:
            more = len(manifest.labels) - MOST_LABELS
            some = ", ".join(_text(shown(label)) for label in manifest.labels[:MOST_LABELS])
            yield f"Classes, in order: {some}{f', and {more} more' if more > 0 else ''}."


def _file(entry: FileEntry) -> tuple[str, str, str]:
    """With its whole digest, by which a file that was downloaded is compared."""
    begin = f", from byte {entry.from_byte} on" if entry.from_byte else ""
    return f"`{_code(entry.path)}`", memory(entry.bytes), f"SHA-256{begin} `{entry.sha256}`"


@dataclass(frozen=True, slots=True)
class _Run:
    """A training run as its record tells it."""

    path: Path
    record: Fields


def _weights_of(bundle: Bundle, run: _Run) -> str | None:
    """Which weights of the run the bundle has; None where its graph contains them.

    Raises:
        VggspecError: it has others.
    """
    inside = {entry.sha256 for entry in bundle.manifest.files if entry.path == WEIGHTS}
    if not inside:
        return None
    for name in LEFT:
        path = run.path / f"{name}.safetensors"
        if path.is_file() and open_weights(path).data_sha256() in inside:
            return name
    raise VggspecError(report(NotOfRun(run=str(run.path)), path=str(bundle.path)))


def _training(run: _Run) -> str:
    record = run.record
    rows: list[tuple[str, str]] = []
    try:
        data = record.object("data")
        folder = Path(data.text("folder")).name  # the whole path may be private
        images = [count(data.integer(key), "image") for key in ("train_images", "val_images")]
        rows += [
            ("data", f"`{_code(folder)}`: {images[0]} to train, {images[1]} to validate"),
            ("data's fingerprint", f"`{_code(data.text('fingerprint'))}`"),
            ("seed", str(record.integer("seed"))),
        ]
        for origin in record.objects("started_from"):
            name, digest = Path(origin.text("weights")).name, origin.text("data_sha256")
            rows.append(("started from", f"`{_code(name)}`, SHA-256 `{_code(digest)}`"))
        settings = " ".join(f"--set {setting!r}" for setting in record.texts("settings"))
        if settings:
            rows.append(("settings", f"`{_code(settings)}`"))
        options = record.object("options")
        rows += [(f"option {key}", _text(str(options.raw(key)))) for key in options.names()]
        computed = record.object("computed")
        rows += [(key.replace("_", " "), _text(str(computed.raw(key)))) for key in computed.names()]
        found = record.object("versions")
        versions = (f"{name} {found.text(name)}" for name in found.names())
        rows.append(("versions", _text(", ".join(versions))))
    except BadFieldError as error:
        raise damaged_record(run.path, error) from error
    return _table(rows)


def _results(run: _Run, weights: str | None) -> str:
    record = run.record
    if record.is_null("result"):
        return "The run was interrupted, and has no result yet."
    try:
        result = record.object("result")
        rows = []
        if not result.is_null("best"):
            best = result.object("best")
            validation = best.object("validation")
            errors = validation.number_table("errors")
            rows += [(f"{name} error", f"{100 * value:.2f} %") for name, value in errors.items()]
            scores = validation.number_table("scores") if "scores" in validation.names() else {}
            rows += [(name, f"{100 * value:.2f} %") for name, value in scores.items()]
            rows += [
                ("validation loss", f"{validation.number('loss'):.4g}"),
                ("epoch, step", f"{best.integer('epoch')}, {best.integer('step')}"),
            ]
        rows += [
            ("steps in all", str(result.integer("step"))),
            ("time", duration(result.number("seconds"))),
            ("images left out", str(result.integer("num_left_out"))),
        ]
    except BadFieldError as error:
        raise damaged_record(run.path, error) from error
    about = {
        "best": "The bundle has the best weights of the run, by its validation error.",
        "last": "The bundle has the last weights of the run; the errors are those of its best.",
        None: "The bundle's graph contains its weights, which were not compared with the run's.",
    }
    return f"{about[weights]}\n\n{_table(rows)}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table without titles; its cells are Markdown already."""
    width = max(map(len, rows))
    cells = [[*row, *[""] * (width - len(row))] for row in rows]
    lines = [f"|{'  |' * width}", "|" + "---|" * width]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)])


def _text(text: str) -> str:
    """Text of unknown origin in a line of Markdown."""
    return html.escape(_MARKUP.sub(r"\\\1", shown(text)), quote=False)


def _code(text: str) -> str:
    """Text of unknown origin between single backticks, also in a table."""
    return shown(text).replace("`", "'").replace("|", "¦")


def _fenced(text: str, language: str) -> str:
    """A block of code; its fence is longer than any within."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
