"""``vggspec verify``: a bundle's answers beside those of the same net in fp32."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import click

from vggspec.catalogue import count
from vggspec.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.render import shown

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vggspec.bundle import Bundle, Manifest
    from vggspec.compiler.backends.torch_module import SpecModule
    from vggspec.compiler.ir import Network
    from vggspec.profile import Profile
    from vggspec.runtime.session import Arrays, Device, Session
    from vggspec.runtime.verify import Figures

    Images: TypeAlias = NDArray[np.uint8]
    Net: TypeAlias = Callable[[Images], Arrays]

Against = Literal["onnxrt", "torch"]

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
COLUMNS = (
    ("profile", 14),
    ("images", 15),
    ("error", 8),
    ("largest", 8),
    ("mean", 8),
    ("cosine", 8),
    ("top-1", 7),
    ("top-5", 7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one shape, or of the pictures that one profile took."""

    profile: int | None
    point: str
    """``min``, ``opt``, ``max`` or ``turned``; of pictures, the one with the largest error."""

    shape: tuple[int, int, int] | None
    """Images, rows and columns; None for pictures, which differ."""

    figures: "Figures"


@click.command(
    "verify",
    epilog="""\b
Examples:
  vggspec verify D
  vggspec verify D --images photos
  vggspec verify D --against torch --json""",
)
@click.argument("bundle")
@click.option(
    "--against",
    type=click.Choice(["onnxrt", "torch"]),
    help="The bundle's own fp32 graph in ONNX Runtime, or its spec and weights in PyTorch.  "
    "[default: onnxrt where the bundle has one, else torch]",
)
@click.option(
    "--images",
    "folder",
    metavar="DIR",
    help="Pictures to compare on, rescaled as the test protocol says.  [default: made-up ones, at "
    "every profile's smallest, usual and largest size]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    help="Where the bundle runs; the reference runs on the CPU.  [default: auto]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="The largest error of class scores.  [default: 8.3e-5 for fp32, 4.3e-3 for fp16 and TF32, "
    "3.4e-2 for bf16]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Of the made-up images.  [default: 0]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: str,
    *,
    against: str | None,
    folder: str | None,
    device: str,
    tolerance: float | None,
    seed: int,
    as_json: bool,
) -> int:
    """Compare a bundle's answers with those of the same net in fp32.

    Images are made up like photographs and run at the smallest, usual and largest size of every
    profile, landscape and portrait. The error is the largest difference of class scores, relative
    to the largest score; of posteriors their logarithms are compared. What is not finite fails.

    Exit code 1 where an error is beyond the tolerance, 3 where the bundle cannot run here.
    """
    from vggspec.bundle import open_bundle

    opened = open_bundle(bundle, deep=True)
    manifest = opened.manifest
    chosen = _device(opened, device)
    _refuse_what_cannot_run(opened, chosen)
    which = cast("Against", against or ("onnxrt" if opened.reference is not None else "torch"))
    progress = _Progress()
    with ExitStack() as stack:
        progress.show("loading")
        reference = _reference(opened, which, stack)
        session = _session(opened, chosen, stack)
        limit = tolerance or _tolerance(manifest, session)
        is_bounded = chosen == "tensorrt"
        comparer = _Comparer(opened, session, reference, limit, is_bounded=is_bounded)
        rows = (
            comparer.over_pictures(folder, progress)
            if folder is not None
            else comparer.over_profiles(seed, progress)
        )
        title = f"{bundle}: {_model(manifest, session)} against {_REFERENCES[which]}"
        found = list(rows) if as_json else _print(title, rows, limit, progress)
        progress.clear()
        overflow = _overflow(opened, found, seed)
        if as_json:
            facts = _as_dict(bundle, which, limit, session, found)
            facts["overflow"] = None if overflow is None else asdict(overflow)
            click.echo(json.dumps(facts, indent=2))
        elif overflow is not None:
            click.echo(overflow.in_words())
    return 0 if all(_passes(row, limit) for row in found) else 1


_REFERENCES: dict[Against, str] = {
    "onnxrt": "its fp32 graph in ONNX Runtime on the CPU",
    "torch": "its spec and weights in PyTorch on the CPU",
}


def _device(bundle: "Bundle", device: str) -> "Device":
    """An engine is loaded, since verifying it is asked for; nothing else of it is worth it."""
    if bundle.manifest.engine is None:
        return cast("Device", device)
    if device in ("cpu", "cuda"):
        raise click.UsageError(
            f"The bundle holds a TensorRT engine, which does not run on `--device {device}`."
        )
    return "tensorrt"


def _refuse_what_cannot_run(bundle: "Bundle", device: "Device") -> None:
    """Say before anything is loaded what speaks against it.

    Raises:
        MissingLibraryError: the machine lacks something, or is another one than the engine's.
    """
    from vggspec.compatibility import compare_bundle
    from vggspec.machine import this_machine

    if device in ("auto", "cpu") and bundle.manifest.engine is None:
        return
    findings = compare_bundle(bundle.manifest, this_machine())
    problem = next((finding for finding in findings if finding.level == "problem"), None)
    if problem is not None:
        raise MissingLibraryError(
            f"the bundle cannot run here: {problem.subject}: {problem.text};"
            f" `vggspec doctor {bundle.path}` tells all"
        )


def _session(bundle: "Bundle", device: "Device", stack: ExitStack) -> "Session":
    from vggspec.runtime.session import open_session

    return stack.enter_context(open_session(bundle, device))


def _model(manifest: "Manifest", session: "Session") -> str:
    where = "CPU" if session.device == "cpu" else "GPU"
    kind = "graph" if manifest.engine is None else "engine"
    return f"its {manifest.precision} {kind} on the {where}"


def _tolerance(manifest: "Manifest", session: "Session") -> float:
    from vggspec.runtime.verify import default_tolerance

    # ONNX Runtime rounds fp32 to TF32 on a GPU unless told otherwise.
    is_graph_on_gpu = manifest.engine is None and session.device == "cuda"
    tf32 = is_graph_on_gpu or (manifest.engine is not None and manifest.engine.tf32)
    return default_tolerance(manifest.precision, tf32=tf32)


# References.


def _reference(bundle: "Bundle", which: Against, stack: ExitStack) -> "Net":
    if which == "torch":
        return _torch_reference(bundle)
    from vggspec.catalogue.verifying import NothingToVerifyAgainst
    from vggspec.runtime.ort_session import OrtSession

    if bundle.reference is None:
        raise VggspecError(report(NothingToVerifyAgainst(), path=str(bundle.path)))
    session = stack.enter_context(OrtSession(bundle.reference, "cpu"))
    return _on(session, bundle.manifest)


def _on(session: "Session", manifest: "Manifest") -> "Net":
    """A session on images."""
    if manifest.members:
        return _on_pictures(session, manifest)
    from vggspec.runtime.preprocess import normalise

    def apply(images: "Images") -> "Arrays":
        return session.run({manifest.input.name: normalise(images, manifest.input)})

    return apply


def _on_pictures(session: "Session", manifest: "Manifest") -> "Net":
    """A session that takes pictures; the scale of each is its own, so that none is rescaled."""
    import numpy as np

    from vggspec.bundle import SCALES
    from vggspec.runtime.verify import batches_of_one, concatenated

    def apply(images: "Images") -> "Arrays":
        answers = []
        for (image,) in batches_of_one(images):
            scales = np.array([min(image.shape[:2])], np.int64)
            given = session.run({manifest.input.name: image, SCALES: scales})
            answers.append({name: array[np.newaxis] for name, array in given.items()})
        return concatenated(answers)

    return apply


def _torch_reference(bundle: "Bundle") -> "Net":
    """The bundle's net in PyTorch, on images."""
    from vggspec.optional import require

    require("torch", "comparing with PyTorch")
    import torch

    from vggspec.runtime.preprocess import normalise

    manifest = bundle.manifest
    if manifest.members:
        return _torch_members(bundle)
    module = _module(bundle)
    contract = replace(manifest.input, contract="float")

    def apply(images: "Images") -> "Arrays":
        with torch.inference_mode():
            given = module(torch.from_numpy(normalise(images, contract)))
        tensors = given if isinstance(given, dict) else {manifest.result.name: given}
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    return apply


def _torch_members(bundle: "Bundle") -> "Net":
    """The nets of a graph that takes pictures, in PyTorch, and the averages around them."""
    import numpy as np
    import torch

    from vggspec.compiler.backends import torch_module
    from vggspec.compiler.backends.bundled_net import member_of
    from vggspec.compiler.weights import open_weights
    from vggspec.runtime.preprocess import normalise

    manifest = bundle.manifest
    modules = []
    for member in manifest.members:
        weights = open_weights(bundle.path / member.weights)
        module = torch_module.loaded(member_of(bundle, member), weights).eval()
        modules.append((module, member.input))

    def apply(images: "Images") -> "Arrays":
        sides = [images, images[:, :, ::-1]] if manifest.test.flip else [images]
        with torch.inference_mode():
            posteriors = [
                module(torch.from_numpy(normalise(side, contract))).numpy()
                for module, contract in modules
                for side in sides
            ]
        return {manifest.result.name: np.stack(posteriors).mean(axis=0, dtype=np.float64)}

    return apply


def _module(bundle: "Bundle") -> "SpecModule":
    """The spec of the bundle as a PyTorch module with the bundle's weights, in fp32."""
    from vggspec.bundle import WEIGHTS
    from vggspec.compiler.backends import torch_module
    from vggspec.compiler.backends.bundled_net import lowered_of, options_of
    from vggspec.compiler.backends.onnx_model import prepare
    from vggspec.compiler.weights import open_weights

    network = prepare(lowered_of(bundle).network, options_of(bundle.manifest))
    path = bundle.path / WEIGHTS
    if path.is_file():
        return torch_module.loaded(network, open_weights(path)).eval()
    return torch_module.with_state(network, _held(bundle, network)).eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overflow:
    """The first layer whose numbers are too large for fp16."""

    layer: str
    largest: float
    """Of its numbers in fp32."""

    limit: float

    def in_words(self) -> str:
        """What it is, and what to do about it."""
        return (
            f"In fp32 `{self.layer}` reaches {self.largest:.3g}, and fp16 ends at {self.limit:.0f}:"
            " keep that layer and those\nafter it in fp32 by `--keep-fp32`, or build an engine in"
            " bf16."
        )


def _overflow(bundle: "Bundle", rows: Sequence[Row], seed: int) -> Overflow | None:
    """Why made-up images came out of an fp16 net as no finite numbers, where PyTorch can tell."""
    from vggspec.optional import has_library

    bad = [row.shape for row in rows if not row.figures.is_finite and row.shape is not None]
    if not bad or bundle.manifest.precision != "fp16" or not has_library("torch"):
        return None
    import torch

    from vggspec.compiler.precision import LARGEST
    from vggspec.runtime.preprocess import normalise
    from vggspec.runtime.verify import natural_images

    try:
        module = _module(bundle)
    except VggspecError:
        return None  # the bundle lacks its weights, or its spec a part
    reached: dict[str, float] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            reached[name] = float(output.abs().max())

        return hook

    for name, child in module.named_children():
        child.register_forward_hook(watch(name))
    manifest = bundle.manifest
    images = natural_images(min(bad), len(manifest.input.mean), seed)[:1]
    with torch.inference_mode():
        module(torch.from_numpy(normalise(images, replace(manifest.input, contract="float"))))
    limit = LARGEST["fp16"]
    # A NaN is beyond any limit.
    first = next((name for name, largest in reached.items() if not largest <= limit), None)
    return None if first is None else Overflow(layer=first, largest=reached[first], limit=limit)


def _held(bundle: "Bundle", network: "Network") -> "dict[str, torch.Tensor]":
    """The weights of a bundle that has them in its model."""
    from vggspec.bundle import WEIGHTS
    from vggspec.catalogue.verifying import NoWeightsToVerify

    if bundle.model.suffix != ".onnx":
        raise VggspecError(report(NoWeightsToVerify(missing=WEIGHTS), path=str(bundle.path)))
    import numpy as np
    import onnx
    import torch
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in onnx.load(bundle.model).graph.initializer}
    state = {}
    for param in network.params():
        if param.name not in held:
            missing = NoWeightsToVerify(missing=param.name)
            raise VggspecError(report(missing, path=str(bundle.model)))
        array = numpy_helper.to_array(held[param.name]).astype(np.float32)
        state[param.name] = torch.from_numpy(array.copy())
    return state


# Comparing.


class _Comparer:
    """A bundle's session and its reference, on the same images."""

    def __init__(
        self,
        bundle: "Bundle",
        session: "Session",
        reference: "Net",
        tolerance: float,
        *,
        is_bounded: bool,
    ) -> None:
        from vggspec.compatibility import profiles_of

        self.bundle = bundle
        self.manifest = bundle.manifest
        engine = self.manifest.engine
        self.profiles: tuple[Profile, ...] = (
            engine.profiles if engine is not None else profiles_of(self.manifest)
        )
        self._net = _on(session, self.manifest)
        self._reference = reference
        self._tolerance = tolerance
        self._is_bounded = is_bounded  # to its profiles; else it takes larger images too

    def over_profiles(self, seed: int, progress: "_Progress") -> Iterator[Row]:
        """Made-up images at every profile's sizes."""
        from vggspec.runtime.verify import cases, natural_images

        all_cases = cases(self.profiles)
        channels = len(self.manifest.input.mean)
        for i, case in enumerate(all_cases, start=1):
            progress.show(f"{i} of {len(all_cases)}: {_by(case.shape)}")
            images = natural_images(case.shape, channels, seed)
            figures = self._compare(images)
            yield Row(profile=case.profile, point=case.point, shape=case.shape, figures=figures)

    def over_pictures(self, folder: str, progress: "_Progress") -> Iterator[Row]:
        """The pictures of a folder at every scale, gathered by the profile that takes them."""
        from vggspec.catalogue.verifying import NoImagesToVerify
        from vggspec.profile import choose_profile

        rows: dict[int | None, Row] = {}
        num_outside = 0
        for name, image in self._pictures(_listed(folder), progress):
            shape = (1, image.shape[1], image.shape[2])
            profile = choose_profile(self.profiles, shape)
            if profile is None and self._is_bounded:
                num_outside += 1
                continue
            figures = self._compare(image)
            row = Row(profile=profile, point=name, shape=None, figures=figures)
            if profile in rows:
                before = rows[profile]
                is_worse = not figures.error <= before.figures.error
                row = Row(
                    profile=profile,
                    point=name if is_worse else before.point,
                    shape=None,
                    figures=before.figures.merged(figures),
                )
            rows[profile] = row
        if num_outside:
            progress.clear()
            click.echo(f"{num_outside} rescaled pictures fit no profile: left out", err=True)
        if not rows:
            what = NoImagesToVerify(reason="none of the pictures fits a profile of the engine")
            raise VggspecError(report(what, path=folder))
        yield from sorted(rows.values(), key=lambda row: (row.profile is None, row.profile))

    def _pictures(
        self, paths: Sequence[Path], progress: "_Progress"
    ) -> Iterator[tuple[str, "Images"]]:
        """Each picture at each scale, as a batch of one."""
        from vggspec.catalogue.data import SmallerThanWindow
        from vggspec.data.read import read_image
        from vggspec.runtime.preprocess import rescalings

        contract, test = self.manifest.input, self.manifest.test
        for i, path in enumerate(paths, start=1):
            progress.show(f"{i} of {len(paths)}: {shown(path.name)}")
            pixels = read_image(path, contract.color)
            for rescaled in rescalings(pixels, test.scales, test.resize):
                if contract.is_dynamic:
                    yield path.name, rescaled[None]
                    continue
                rows, columns = contract.size
                size = rescaled.shape[0], rescaled.shape[1]
                if size[0] < rows or size[1] < columns:
                    what = SmallerThanWindow(size=size, window=contract.size)
                    raise VggspecError(report(what, path=str(path)))
                top, left = (rescaled.shape[0] - rows) // 2, (rescaled.shape[1] - columns) // 2
                yield path.name, rescaled[None, top : top + rows, left : left + columns]

    def _compare(self, images: "Images") -> "Figures":
        from vggspec.catalogue.verifying import OtherOutputs
        from vggspec.runtime.verify import batches_of_one, compare_outputs, concatenated

        found = self._net(images)
        expected = concatenated([self._reference(each) for each in batches_of_one(images)])
        try:
            return compare_outputs(found, expected, self.manifest, self._tolerance)
        except ValueError as error:
            what = OtherOutputs(reason=str(error))
            raise VggspecError(report(what, path=str(self.bundle.path))) from error


def _listed(folder: str) -> list[Path]:
    from vggspec.catalogue.verifying import NoImagesToVerify

    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        what = NoImagesToVerify(reason="there are no pictures here")
        raise VggspecError(report(what, path=folder))
    return paths


def _passes(row: Row, tolerance: float) -> bool:
    return row.figures.is_finite and row.figures.error <= tolerance


# In words.


class _Progress:
    """One line on a terminal's standard error that says what goes on; elsewhere nothing."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._is_shown:
            click.echo(f"\r\x1b[K{text} …", nl=False, err=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def _print(title: str, rows: Iterator[Row], tolerance: float, progress: _Progress) -> list[Row]:
    """Print the rows as they come."""
    from vggspec.cli.terminal import use_color

    color = use_color(sys.stdout)
    progress.clear()
    click.echo(f"{title}\n")
    head = "  ".join(f"{name:{width}}" for name, width in COLUMNS).rstrip()
    click.echo(click.style(head, bold=True) if color else head)
    found = []
    for row in rows:
        progress.clear()
        verdict = _verdict(row, tolerance)
        if color:
            verdict = click.style(verdict, fg="green" if _passes(row, tolerance) else "red")
        cells = zip(_cells(row), (width for _, width in COLUMNS), strict=True)
        click.echo("  ".join([*(f"{cell:{width}}" for cell, width in cells), verdict]))
        found.append(row)
    click.echo(f"\n{_summary(found, tolerance)}")
    return found


def _cells(row: Row) -> tuple[str, ...]:
    figures = row.figures
    profile = "none" if row.profile is None else str(row.profile)
    return (
        profile if row.shape is None else f"{profile} {row.point}",
        str(figures.images) if row.shape is None else _by(row.shape),
        f"{figures.error:.1e}",
        f"{figures.max_abs:.1e}",
        f"{figures.mean_abs:.1e}",
        f"{figures.cosine:.6f}",
        f"{figures.top1}/{figures.images}",
        f"{figures.top5}/{figures.images}",
    )


def _verdict(row: Row, tolerance: float) -> str:
    if not row.figures.is_finite:
        return "not finite"
    if not _passes(row, tolerance):
        return "beyond"
    words = ["ok"]
    if row.figures.tied:
        words.append(f"{row.figures.tied} tied")
    if row.figures.saturated:
        words.append(f"{row.figures.saturated} saturated")
    return ", ".join(words)


def _summary(rows: Sequence[Row], tolerance: float) -> str:
    total = sum(row.figures.images for row in rows)
    failed = [row for row in rows if not _passes(row, tolerance)]
    if not failed:
        agreed = f"All {total} images agree: no error beyond {tolerance:.1e}."
        saturated = sum(row.figures.saturated for row in rows)
        if not saturated:
            return agreed
        return (
            f"{agreed}\nThe net is so sure of a class of {saturated} of them that their posteriors"
            " tell nothing of the others:\ncompile it with `--map` to have its scores compared."
        )
    worst = max(failed, key=lambda row: (not math.isfinite(row.figures.error), row.figures.error))
    shape = _by(worst.shape) if worst.shape is not None else shown(worst.point)
    at = shape if worst.profile is None else f"profile {worst.profile} at {shape}"
    return (
        f"{len(failed)} of {count(len(rows), 'row')} beyond {tolerance:.1e}. The worst is {at}:\n"
        f"{shown(worst.figures.where)}, error {worst.figures.error:.1e}"
    )


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _as_dict(
    bundle: str, against: Against, tolerance: float, session: "Session", rows: Sequence[Row]
) -> dict[str, object]:
    return {
        "bundle": bundle,
        "against": against,
        "device": session.device,
        "tolerance": tolerance,
        "passed": all(_passes(row, tolerance) for row in rows),
        "rows": [
            {
                "profile": row.profile,
                "point": row.point,
                "shape": None if row.shape is None else list(row.shape),
                **_finite(asdict(row.figures)),
                "passed": _passes(row, tolerance),
            }
            for row in rows
        ],
    }


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in figures.items()
    }
