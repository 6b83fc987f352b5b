"""``vggspec verify``: a bundle's answers beside those of the same net in fp32."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import click

from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.render import shown
from vggspec.base.wording import count

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vggspec.bundle.manifest import Bundle, Manifest, Precision
    from vggspec.bundle.profile import Profile
    from vggspec.compiler.backends.torch.module import SpecModule
    from vggspec.compiler.ir import Network
    from vggspec.compiler.ranges import Ranges
    from vggspec.runtime.session import Arrays, Device, Session
    from vggspec.studies.verify.agreement import Figures

    Images: TypeAlias = NDArray[np.uint8]
    Net: TypeAlias = Callable[[Images], Arrays]

Against = Literal["onnxrt", "torch"]

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

    Of a bundle in fp16 or bf16, every layer of the reference is held against what that type holds.
    Arithmetic that is not run here, such as fp16 on most CPUs, is named and not certified.

    Exit code 1 where an error is beyond the tolerance or a number beyond its type, 3 where the
    bundle cannot run here.
    """
    from vggspec.bundle.manifest import open_bundle

    opened = open_bundle(bundle, deep=True)
    manifest = opened.manifest
    chosen = _device(opened, device)
    _refuse_what_cannot_run(opened, chosen)
    which = cast("Against", against or ("onnxrt" if opened.reference is not None else "torch"))
    progress = _Progress()
    with ExitStack() as stack:
        progress.show("loading")
        taps = None if manifest.precision == "fp32" else _Taps(opened)
        reference = _reference(opened, which, stack, taps)
        session = _session(opened, chosen, stack)
        limit = tolerance or _tolerance(manifest, session)
        is_bounded = chosen == "tensorrt"
        comparer = _Comparer(opened, session, reference, limit, is_bounded=is_bounded)
        rows = (
            comparer.over_pictures(folder, progress)
            if folder is not None
            else comparer.over_profiles(seed, progress)
        )
        title = f"{shown(bundle)}: {_model(manifest, session)} against {_REFERENCES[which]}"
        found = list(rows) if as_json else _print(title, rows, limit, progress)
        progress.show("which arithmetic was run")
    arithmetic = _arithmetic(opened, session, chosen)
    ranges = None if taps is None else taps.compared()
    progress.clear()
    passed = all(_passes(row, limit) for row in found) and not (ranges and ranges.beyond)
    if as_json:
        facts = _as_dict(bundle, which, limit, session, found)
        facts |= {"passed": passed, "arithmetic": asdict(arithmetic), **_ranges_as_dict(ranges)}
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo()
        if not arithmetic.is_run:
            click.echo(f"{arithmetic.in_words()}\n")
        if ranges is not None:
            for line in _ranges_in_words(ranges, manifest):
                click.echo(line)
        click.echo(_summary(found, limit, arithmetic))
    return 0 if passed else 1


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
    from vggspec.runtime.compatibility import compare_bundle
    from vggspec.runtime.machine import this_machine

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
    from vggspec.runtime.opening import open_session

    return _checked(stack.enter_context(open_session(bundle, device)), bundle)


def _model(manifest: "Manifest", session: "Session") -> str:
    where = "CPU" if session.device == "cpu" else "GPU"
    kind = "graph" if manifest.engine is None else "engine"
    return f"its {manifest.precision} {kind} on the {where}"


def _tolerance(manifest: "Manifest", session: "Session") -> float:
    from vggspec.studies.verify.agreement import default_tolerance

    # ONNX Runtime rounds fp32 to TF32 on a GPU unless told otherwise.
    is_graph_on_gpu = manifest.engine is None and session.device == "cuda"
    tf32 = is_graph_on_gpu or (manifest.engine is not None and manifest.engine.tf32)
    return default_tolerance(manifest.precision, tf32=tf32)


# References.


def _reference(bundle: "Bundle", which: Against, stack: ExitStack, taps: "_Taps | None") -> "Net":
    if which == "torch":
        return _torch_reference(bundle, taps)
    from vggspec.base.catalogue.verifying import NothingToVerifyAgainst
    from vggspec.runtime.ort_session import OrtSession

    if bundle.reference is None:
        raise VggspecError(report(NothingToVerifyAgainst(), path=str(bundle.path)))
    if taps is None:
        return _on(stack.enter_context(OrtSession(bundle.reference, "cpu")), bundle.manifest)
    graph = taps.graph(bundle.reference)
    session = stack.enter_context(OrtSession(bundle.reference, "cpu", graph=graph))
    return taps.taken_off(_on(session, bundle.manifest))


class _Taps:
    """How large the numbers of each layer become in a reference, over all images.

    They are looked at where they are: no more than two numbers of each layer are kept.
    """

    def __init__(self, bundle: "Bundle") -> None:
        from vggspec.bundle.manifest import WEIGHTS
        from vggspec.compiler.backends.onnx.model import prepare
        from vggspec.compiler.bundles.net import lowered_of, options_of
        from vggspec.compiler.ranges import largest_weights
        from vggspec.compiler.weights import for_net, open_weights

        self._manifest = bundle.manifest
        self._network = prepare(lowered_of(bundle).network, options_of(bundle.manifest))
        self._weights = None
        if (bundle.path / WEIGHTS).is_file():
            self._weights = for_net(open_weights(bundle.path / WEIGHTS), self._network)
        self._arrays = (
            {} if self._weights is None else largest_weights(self._network, self._weights)
        )
        self.largest: dict[str, float] = {}

    def note(self, layer: str, *numbers: float) -> None:
        """Keep the largest of these and those before."""
        known = self.largest.get(layer, 0.0)
        for size in map(abs, numbers):
            known = known if known >= size or math.isnan(known) else size
        self.largest[layer] = known

    def graph(self, path: Path) -> bytes:
        """The reference with outputs that tell of its layers."""
        from vggspec.compiler.backends.onnx.tapped import tapped

        return tapped(path, [layer.name for layer in self._network.layers])

    def taken_off(self, net: "Net") -> "Net":
        """The net with these outputs noted and taken away."""
        from vggspec.compiler.backends.onnx.tapped import HIGHEST, LOWEST

        def apply(images: "Images") -> "Arrays":
            self._note_image(images)
            answers = dict(net(images))
            for name in list(answers):
                for prefix in (HIGHEST, LOWEST):
                    if name.startswith(prefix):
                        self.note(name.removeprefix(prefix), float(answers.pop(name)))
            return answers

        return apply

    def watch(self, module: "SpecModule", net: "Net") -> "Net":
        """The net, of whose module each layer's output is looked at."""
        import torch

        def hook_of(name: str) -> Callable[..., None]:
            def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
                self.note(name, *map(float, torch.aminmax(output)))

            return hook

        for name, child in module.named_children():
            child.register_forward_hook(hook_of(name))

        def apply(images: "Images") -> "Arrays":
            self._note_image(images)
            return net(images)

        return apply

    def compared(self) -> "Ranges":
        """The layers whose numbers their types do not hold."""
        from vggspec.compiler.ranges import compare

        manifest = self._manifest
        return compare(
            self._network, manifest.precision, manifest.fp32_layers, self.largest, self._arrays
        )

    def _note_image(self, images: "Images") -> None:
        from vggspec.compiler.ir import IMAGE
        from vggspec.runtime.preprocess import normalise

        given = normalise(images, replace(self._manifest.input, contract="float"))
        self.note(IMAGE, float(given.min()), float(given.max()))


def _checked(session: "Session", bundle: "Bundle") -> "Session":
    """A session that takes and gives what the manifest says.

    Raises:
        VggspecError: it does not.
    """
    from vggspec.runtime import net, picture_net

    of = picture_net if bundle.manifest.members else net
    of.check_ports(session, bundle.manifest, str(bundle.path))
    return session


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

    from vggspec.bundle.manifest import SCALES
    from vggspec.studies.verify.agreement import batches_of_one, concatenated

    def apply(images: "Images") -> "Arrays":
        answers = []
        for (image,) in batches_of_one(images):
            scales = np.array([min(image.shape[:2])], np.int64)
            given = session.run({manifest.input.name: image, SCALES: scales})
            answers.append({name: array[np.newaxis] for name, array in given.items()})
        return concatenated(answers)

    return apply


def _torch_reference(bundle: "Bundle", taps: _Taps | None) -> "Net":
    """The bundle's net in PyTorch, on images."""
    from vggspec.base.optional import require

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

    return apply if taps is None else taps.watch(module, apply)


def _torch_members(bundle: "Bundle") -> "Net":
    """The nets of a graph that takes pictures, in PyTorch, and the averages around them."""
    import numpy as np
    import torch

    from vggspec.compiler.backends.torch import module as torch_module
    from vggspec.compiler.bundles.net import member_of
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
    from vggspec.bundle.manifest import WEIGHTS
    from vggspec.compiler.backends.onnx.model import prepare
    from vggspec.compiler.backends.torch import module as torch_module
    from vggspec.compiler.bundles.net import lowered_of, options_of
    from vggspec.compiler.weights import open_weights

    network = prepare(lowered_of(bundle).network, options_of(bundle.manifest))
    path = bundle.path / WEIGHTS
    if path.is_file():
        return torch_module.loaded(network, open_weights(path)).eval()
    return torch_module.with_state(network, _held(bundle, network)).eval()


def _held(bundle: "Bundle", network: "Network") -> "dict[str, torch.Tensor]":
    """The weights of a bundle that has them in its model."""
    from vggspec.base.catalogue.verifying import NoWeightsToVerify
    from vggspec.bundle.manifest import WEIGHTS

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


# Arithmetic.


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """The number type in which a bundle's convolutions and FC layers are to compute, and how many
    of them did so here.
    """

    stated: "Precision"
    layers: int
    """Those of that type."""

    run: int | None
    """How many of them; None where nobody tells: an engine computes as it was built."""

    @property
    def is_run(self) -> bool:
        """Whether what was compared was computed as the bundle states."""
        return self.run is None or self.run >= self.layers

    def in_words(self) -> str:
        """What was not run, and what was."""
        of = "" if not self.run else f" {self.layers - self.run} of the {self.layers}"
        return (
            f"Not certified: {self.stated} arithmetic was not run. ONNX Runtime computes"
            f"{of or ' all'} {self.stated} layers in fp32 here;\n"
            f"what was compared is the rounding of the weights to {self.stated}, and the numbers of"
            f" each layer with\nwhat {self.stated} holds. Sums inside a layer were not checked."
            " Verify the bundle on a GPU to run it."
        )


def _arithmetic(bundle: "Bundle", session: "Session", device: "Device") -> Arithmetic:
    """In what a bundle was computed, as ONNX Runtime tells it of a graph."""
    from vggspec.compiler.backends.onnx.model import prepare
    from vggspec.compiler.bundles.net import lowered_of, options_of
    from vggspec.compiler.precision import number_types

    manifest = bundle.manifest
    if manifest.precision == "fp32" or manifest.engine is not None or device == "tensorrt":
        return Arithmetic(stated=manifest.precision, layers=0, run=None)
    import numpy as np

    from vggspec.runtime.ort_session import computed_in
    from vggspec.runtime.preprocess import normalise

    network = prepare(lowered_of(bundle).network, options_of(manifest))
    types = number_types(network, manifest.precision, manifest.fp32_layers)
    layers = [
        layer.name
        for layer in network.layers
        if layer.op.arithmetic == "chosen" and types[layer.name] != "fp32"
    ]
    image = np.zeros((1, *manifest.input.size, len(manifest.input.mean)), np.uint8)
    feeds = {manifest.input.name: normalise(image, manifest.input)}
    run = computed_in(bundle.model, session.device, feeds)["float16"]
    return Arithmetic(stated=manifest.precision, layers=len(layers), run=run)


MOST_LAYERS = 6


def _ranges_in_words(ranges: "Ranges", manifest: "Manifest") -> Iterator[str]:
    """The layers that are out of range, and what mends it."""
    for title, found in (("", ranges.beyond), ("Note: ", ranges.small)):
        for one in found[:MOST_LAYERS]:
            yield f"{title}In fp32 {one.in_words()}."
        if len(found) > MOST_LAYERS:
            yield f"{title}So do {count(len(found) - MOST_LAYERS, 'more layer')}."
    if not ranges.beyond:
        return
    kept = [name for name in ranges.keep_fp32 if name not in manifest.fp32_layers]
    options = " ".join(f"--keep-fp32 {shown(name)}" for name in kept)
    if len(kept) > MOST_LAYERS:
        options = "--precision fp32"
    bf16 = ", or build the engine by `--precision bf16`" if manifest.engine is not None else ""
    yield f"Compile it with `{options}`{'' if manifest.precision == 'bf16' else bf16}."


def _ranges_as_dict(ranges: "Ranges | None") -> dict[str, object]:
    """``overflow`` is the first layer beyond its type; ``out_of_range`` has those that lose digits
    too.
    """
    if ranges is None:
        return {"overflow": None, "out_of_range": [], "keep_fp32": []}
    found = [_finite(asdict(one)) for one in (*ranges.beyond, *ranges.small)]
    return {
        "overflow": found[0] if ranges.beyond else None,
        "out_of_range": found,
        "keep_fp32": list(ranges.keep_fp32),
    }


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
        from vggspec.runtime.compatibility import profiles_of

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
        from vggspec.base.catalogue.artefacts import TooLargeToVerify
        from vggspec.studies.verify.agreement import cases, natural_images, within

        every_case = cases(self.profiles)
        all_cases = within(every_case, is_engine=self.manifest.engine is not None)
        if not all_cases:
            smallest = min((case.shape for case in every_case), key=prod)
            what = TooLargeToVerify(shape=smallest)
            raise VggspecError(report(what, path=str(self.bundle.path)))
        if len(all_cases) < len(every_case):
            progress.clear()
            left_out = count(len(every_case) - len(all_cases), "shape")
            click.echo(f"{left_out} left out: more pixels than are ever run at once", err=True)
        channels = len(self.manifest.input.mean)
        for i, case in enumerate(all_cases, start=1):
            progress.show(f"{i} of {len(all_cases)}: {_by(case.shape)}")
            images = natural_images(case.shape, channels, seed)
            figures = self._compare(images)
            yield Row(profile=case.profile, point=case.point, shape=case.shape, figures=figures)

    def over_pictures(self, folder: str, progress: "_Progress") -> Iterator[Row]:
        """The pictures of a folder at every scale, gathered by the profile that takes them."""
        from vggspec.base.catalogue.verifying import NoImagesToVerify
        from vggspec.bundle.profile import choose_profile

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
        from vggspec.base.catalogue.data import SmallerThanWindow
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
        from vggspec.base.catalogue.verifying import OtherOutputs
        from vggspec.studies.verify.agreement import batches_of_one, compare_outputs, concatenated

        found = self._net(images)
        try:
            expected = concatenated([self._reference(each) for each in batches_of_one(images)])
            return compare_outputs(found, expected, self.manifest, self._tolerance)
        except ValueError as error:
            what = OtherOutputs(reason=str(error))
            raise VggspecError(report(what, path=str(self.bundle.path))) from error


def _listed(folder: str) -> list[Path]:
    from vggspec.base.catalogue.verifying import NoImagesToVerify
    from vggspec.cli.progress import shown as watching
    from vggspec.data.pictures import list_images

    with watching() as watch:
        paths = list_images(folder, watch)
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


def _summary(rows: Sequence[Row], tolerance: float, arithmetic: Arithmetic) -> str:
    total = sum(row.figures.images for row in rows)
    failed = [row for row in rows if not _passes(row, tolerance)]
    if not failed:
        agreed = f"All {total} images agree: no error beyond {tolerance:.1e}."
        if not arithmetic.is_run:
            agreed = (
                f"No error beyond {tolerance:.1e} in {count(total, 'image')}, as far as it was run."
            )
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
