"""A net in int8: calibrated by images, and no less accurate than the caller allows."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from vggspec.base.catalogue.backends import TooLargeForOneFile
from vggspec.base.catalogue.quantising import (
    DropTooLarge,
    NoClassesToCompare,
    NothingToQuantise,
)
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import place
from vggspec.base.watcher import Watcher
from vggspec.bundle.calibration import Calibration
from vggspec.bundle.manifest import MODEL, WEIGHTS, Manifest
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import MAX_EMBEDDED_BYTES, emit, prepare
from vggspec.compiler.input_contract import known_mean
from vggspec.compiler.ir import IMAGE, Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.quantising.examples import Example, Examples
from vggspec.compiler.quantising.folding import folded
from vggspec.compiler.quantising.graph import in_int8, typed
from vggspec.compiler.quantising.ranges import measure_ranges
from vggspec.compiler.weights import WeightsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """A net in int8."""

    model: onnx.ModelProto
    """Its graph, which contains its weights."""

    network: Network
    """The net of the graph: batch normalisations are part of its convs."""

    kept: tuple[str, ...]
    """Convs and FC layers that stay in fp32."""

    calibration: Calibration

    def described(self, manifest: Manifest) -> Manifest:
        """The manifest of a bundle with the net."""
        import onnxruntime

        options = replace(manifest.options, keep_fp32=self.kept)
        tools = {**manifest.tools, "onnxruntime": onnxruntime.__version__}
        return replace(manifest, options=options, calibration=self.calibration, tools=tools)


@dataclass(frozen=True, slots=True)
class _Answers:
    """The likeliest classes of the held-out images."""

    classes: tuple[int, ...]
    truths: tuple[int | None, ...]

    def accuracy(self) -> float:
        """The share of right ones, in per cent."""
        return self._percent(self.truths)

    def agreement(self, other: "_Answers") -> float:
        """The share of those that are the same, in per cent."""
        return self._percent(other.classes)

    def _percent(self, wanted: Sequence[int | None]) -> float:
        same = sum(a == b for a, b in zip(self.classes, wanted, strict=True))
        return 100 * same / len(self.classes)


@dataclass(frozen=True, slots=True)
class _Tried:
    """An int8 graph and its accuracy."""

    model: onnx.ModelProto
    kept: tuple[str, ...]
    after: float
    agreement: float


def quantise(
    lowered: Lowered,
    weights: WeightsFile,
    options: CompileOptions,
    manifest: Manifest,
    watch: Watcher,
) -> Quantised:
    """Quantise a net, and measure how accurate it is before and after on images that did not
    calibrate it.

    ``manifest`` describes the bundle in fp32 terms: its input, output and test protocol. The
    layers ``options.keep_fp32`` stay in fp32. If it is empty, all convs and FC layers in int8 are
    compared with all but the first and the last, and the more accurate one is taken; of equal ones
    the former, which is faster.

    Raises:
        VggspecError: the net does not classify or is too large, the images are too few, too many of
            them cannot be used, or the accuracy falls by more than ``options.max_drop``.
    """
    assert options.calibrate is not None
    if not manifest.classifies or manifest.result.is_map:
        raise _refuse(NoClassesToCompare(output=manifest.gives), manifest)
    size = lowered.network.input.type.size
    examples = Examples(options.calibrate, manifest, size, options.calibration_images, watch)
    with tempfile.TemporaryDirectory(prefix="vggspec-") as scratch:
        folder = Path(scratch)
        (folder / WEIGHTS).parent.mkdir()
        merged, file = folded(lowered.network, weights, folder / WEIGHTS)
        if file is weights:
            place(weights.path, folder / WEIGHTS, refer=True)
        network = prepare(merged, options)
        path = folder / MODEL
        model = emit(
            network,
            file,
            contract=options.contract,
            mean=known_mean(network.input),
            is_dynamic=options.is_dense,
        )
        path.write_bytes(model.SerializeToString())
        model = typed(model)
        calibrating = _Listed(examples.calibrating())
        ranges = measure_ranges(path, model, calibrating)
        fp32 = _answers(path, None, manifest, examples, "testing fp32")
        before = fp32.accuracy() if examples.has_classes else 100.0
        best: _Tried | None = None
        for kept in _choices(network, options.keep_fp32):
            graph = in_int8(model, file, ranges, kept)
            if graph.ByteSize() > MAX_EMBEDDED_BYTES:
                raise _refuse(TooLargeForOneFile(bytes=graph.ByteSize()), manifest)
            data = graph.SerializeToString()
            int8 = _answers(path, data, manifest, examples, f"testing int8{_but(kept)}")
            agreement = int8.agreement(fp32)
            after = int8.accuracy() if examples.has_classes else agreement
            tried = _Tried(graph, kept, after, agreement)
            if best is None or (after, agreement) > (best.after, best.agreement):
                best = tried
        assert best is not None
    examples.tell_left_out()
    calibration = Calibration(
        method="min-max",
        images=calibrating.number,
        images_sha256=calibrating.sha256(),
        scale=examples.scale,
        held_out=len(fp32.classes),
        measure="accuracy" if examples.has_classes else "agreement",
        before=before,
        after=best.after,
        agreement=best.agreement,
    )
    if calibration.drop > options.max_drop:
        what = DropTooLarge(
            before=before,
            after=best.after,
            measure=calibration.measure,
            images=calibration.held_out,
            most=options.max_drop,
            kept=best.kept,
        )
        raise _refuse(what, manifest)
    return Quantised(model=best.model, network=network, kept=best.kept, calibration=calibration)


class _Listed:
    """Examples that pass through, and the digest of their list."""

    def __init__(self, examples: Iterator[Example]) -> None:
        self._examples = examples
        self._digest = hashlib.sha256()
        self.number = 0

    def __iter__(self) -> Iterator[Example]:
        for example in self._examples:
            line = f"{example.name}\0{example.sha256}\n"
            self._digest.update(line.encode(errors="surrogateescape"))
            self.number += 1
            yield example

    def sha256(self) -> str:
        """The digest of those that have passed."""
        return self._digest.hexdigest()


def _choices(network: Network, kept: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The convs and FC layers that may stay in fp32.

    Raises:
        VggspecError: all of them would.
    """
    layers = [layer.name for layer in network.layers if layer.op.arithmetic == "chosen"]
    named = tuple(name for name in layers if name in kept)
    if len(named) == len(layers):
        raise VggspecError(report(NothingToQuantise(), path=f"net {network.name}"))
    if kept or len(layers) < 3:  # by `none`, none
        return (named,)
    return (), (layers[0], layers[-1])


def _answers(
    path: Path, graph: bytes | None, manifest: Manifest, examples: Examples, doing: str
) -> _Answers:
    from vggspec.runtime.ort_session import OrtSession

    classes: list[int] = []
    truths: list[int | None] = []
    with OrtSession(path, "cpu", graph=graph) as session:
        for example in examples.held_out(doing):
            outputs = session.run({IMAGE: example.feed})
            classes.append(int(np.argmax(outputs[manifest.result.name][0])))
            truths.append(example.truth)
    return _Answers(tuple(classes), tuple(truths))


def _but(kept: Sequence[str]) -> str:
    return f" but {' and '.join(kept)}" if kept else ""


def _refuse(
    what: NoClassesToCompare | TooLargeForOneFile | DropTooLarge, of: Manifest
) -> VggspecError:
    return VggspecError(report(what, path=f"net {of.net}"))
