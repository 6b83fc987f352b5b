"""``verify``: run a bundle and the same net in fp32 on the same images, and compare the outputs."""

import math
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vggspec.base.arguments import Device, check_choice, check_whole
from vggspec.base.catalogue.verifying import OtherOutputs
from vggspec.base.diagnostic import ArgumentError, MissingLibraryError, VggspecError, report
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.profile import BatchShape
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.compiler.ranges import Ranges
from vggspec.data.read import Pixels
from vggspec.runtime import machine
from vggspec.runtime import open_session as opening
from vggspec.runtime.compatibility import compare_bundle
from vggspec.runtime.session import Session
from vggspec.studies.verification.arithmetic import ArithmeticCheck, measure
from vggspec.studies.verification.comparison import Figures, compare_outputs
from vggspec.studies.verification.images import ImageBatch, pictures, synthetic
from vggspec.studies.verification.ranges import Forward, LargestNumbers
from vggspec.studies.verification.reference import Against, on_images, one_by_one, open_reference
from vggspec.studies.verification.tolerance import default_tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The differences at one shape, or over all pictures that one profile takes."""

    profile: int | None
    """None for pictures that fit no profile."""

    point: str
    """``min``, ``opt``, ``max`` or ``turned``; for pictures, the name of the one with the largest
    error."""

    shape: BatchShape | None
    """Images, rows and columns; None for pictures, which differ in size."""

    figures: Figures

    def passes(self, tolerance: float) -> bool:
        """Whether all outputs are finite and the error is within the tolerance."""
        return self.figures.is_finite and self.figures.error <= tolerance

    def merged(self, other: "Comparison") -> "Comparison":
        """The comparison over the images of both."""
        is_worse = not other.figures.error <= self.figures.error
        return Comparison(
            profile=self.profile,
            point=other.point if is_worse else self.point,
            shape=self.shape,
            figures=self.figures.merged(other.figures),
        )


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How closely a bundle agrees with the same net in fp32."""

    bundle: str
    manifest: Manifest
    against: Against
    device: Literal["cpu", "cuda"]
    """Where the bundle ran; the reference runs on the CPU."""

    tolerance: float
    """The largest ``Figures.error`` that passes."""

    comparisons: tuple[Comparison, ...]
    """One a shape, or one a profile for pictures, in the order of the profiles."""

    arithmetic: ArithmeticCheck
    ranges: Ranges | None
    """The layers whose numbers do not fit their type; None in fp32 and int8."""

    @property
    def passed(self) -> bool:
        """Whether all errors are within the tolerance and all numbers fit their type."""
        return not self.failed and not (self.ranges and self.ranges.beyond)

    @property
    def failed(self) -> tuple[Comparison, ...]:
        """The comparisons with an error beyond the tolerance."""
        return tuple(each for each in self.comparisons if not each.passes(self.tolerance))

    @property
    def num_images(self) -> int:
        """The number of images that were compared."""
        return sum(each.figures.images for each in self.comparisons)

    def as_data(self) -> dict[str, object]:
        """The verification as ``vggspec verify --json`` prints it.

        ``overflow`` is the first layer beyond its type; ``out_of_range`` also has the layers whose
        numbers are so small that they lose digits. NaN and infinity are None.
        """
        rows = [
            {
                "profile": each.profile,
                "point": each.point,
                "shape": None if each.shape is None else list(each.shape),
                **_finite(asdict(each.figures)),
                "passed": each.passes(self.tolerance),
            }
            for each in self.comparisons
        ]
        ranges = self.ranges or Ranges(beyond=(), small=(), keep_fp32=())
        out_of_range = [_finite(asdict(each)) for each in (*ranges.beyond, *ranges.small)]
        return {
            "bundle": self.bundle,
            "against": self.against,
            "device": self.device,
            "tolerance": self.tolerance,
            "rows": rows,
            "passed": self.passed,
            "arithmetic": asdict(self.arithmetic),
            "overflow": out_of_range[0] if ranges.beyond else None,
            "out_of_range": out_of_range,
            "keep_fp32": list(ranges.keep_fp32),
        }


def verify(
    bundle: str | os.PathLike[str],
    *,
    against: Against | None = None,
    images: str | os.PathLike[str] | None = None,
    device: Device = "auto",
    tolerance: float | None = None,
    seed: int = 0,
    watch: Watcher = SILENT,
) -> Verification:
    """Compare a bundle's outputs with those of the same net in fp32.

    The reference is the bundle's fp32 graph in ONNX Runtime (``against="onnxrt"``) or its spec and
    weights in PyTorch (``"torch"``); None takes the graph if the bundle has one. ``images`` is a
    folder of pictures; None makes synthetic images from ``seed``, at the smallest, usual and
    largest size of every profile. ``tolerance`` bounds the error, a difference of class scores
    relative to the largest score; None takes the error that rounding explains.

    All files are compared with their digests first. An engine is loaded, whatever ``device``.

    Raises:
        VggspecError: the bundle is damaged, lacks its reference, or its outputs or images cannot be
            compared.
        MissingLibraryError: the bundle cannot run on this machine.
        ArgumentError: ``against`` is neither reference, there is no such ``device``, ``tolerance``
            is not positive, ``seed`` is negative, or the bundle contains an engine and ``device``
            is another one than ``tensorrt``.
        TypeError: ``seed`` is no whole number.
    """
    check_choice("against", against, Against)
    check_choice("device", device, Device)
    check_whole("seed", seed, least=0)
    if tolerance is not None and not tolerance > 0:
        raise ArgumentError(f"tolerance is {tolerance}, and must be positive")
    opened = open_bundle(bundle, deep=True)
    manifest = opened.manifest
    chosen = _device(manifest, device)
    _check_machine(opened, chosen)
    against = against or ("onnxrt" if opened.reference is not None else "torch")
    with ExitStack() as stack:
        # Beyond its range int8 saturates, as calibration has it.
        has_ranges = manifest.precision not in ("fp32", "int8")
        largest = LargestNumbers(opened) if has_ranges else None
        reference = stack.enter_context(open_reference(opened, against, largest))
        session = stack.enter_context(opening.open_session(opened, chosen))
        net = on_images(session, opened)
        limit = tolerance or _tolerance(manifest, session)
        engine = manifest.engine
        profiles = engine.profiles if engine is not None else profiles_of(manifest)
        if images is None:
            batches = synthetic(opened, profiles, seed, watch)
        else:
            # An engine takes the sizes of its profiles only.
            is_bounded = chosen == "tensorrt"
            batches = pictures(images, manifest, profiles, watch, is_bounded=is_bounded)
        comparisons = _compare(opened, net, reference, batches, limit)
        arithmetic = measure(opened, session, chosen)
    return Verification(
        bundle=os.fspath(bundle),
        manifest=manifest,
        against=against,
        device=session.device,
        tolerance=limit,
        comparisons=comparisons,
        arithmetic=arithmetic,
        ranges=None if largest is None else largest.compared(),
    )


def _device(manifest: Manifest, device: Device) -> Device:
    """The device to run on. The caller asks for an engine to be verified, and so to be loaded."""
    if manifest.engine is None:
        return device
    if device not in ("auto", "tensorrt"):
        why = f"the bundle contains a TensorRT engine, which does not run on the device `{device}`"
        raise ArgumentError(why)
    return "tensorrt"


def _check_machine(bundle: Bundle, device: Device) -> None:
    """Find out before loading whether the bundle runs here.

    Raises:
        MissingLibraryError: the machine lacks something, or the engine is for another one.
    """
    if device in ("auto", "cpu", "openvino") and bundle.manifest.engine is None:
        return
    findings = compare_bundle(bundle.manifest, machine.this_machine())
    problem = next((finding for finding in findings if finding.level == "problem"), None)
    if problem is not None:
        raise MissingLibraryError(
            f"the bundle cannot run here: {problem.subject}: {problem.text};"
            f" run `vggspec doctor {bundle.path}` for details"
        )


def _tolerance(manifest: Manifest, session: Session) -> float:
    # ONNX Runtime rounds fp32 to TF32 on a GPU by default.
    is_graph_on_gpu = manifest.engine is None and session.device == "cuda"
    tf32 = is_graph_on_gpu or (manifest.engine is not None and manifest.engine.tf32)
    return default_tolerance(manifest.precision, tf32=tf32)


def _compare(
    bundle: Bundle,
    net: Forward,
    reference: Forward,
    batches: Iterable[ImageBatch],
    tolerance: float,
) -> tuple[Comparison, ...]:
    """The comparisons of all batches; pictures of one profile are merged."""

    def figures(images: Pixels) -> Figures:
        found = net(images)
        try:
            expected = one_by_one(reference, images)
            return compare_outputs(found, expected, bundle.manifest, tolerance)
        except ValueError as error:
            what = OtherOutputs(reason=str(error))
            raise VggspecError(report(what, path=str(bundle.path))) from error

    found: dict[tuple[int | None, BatchShape | None], Comparison] = {}
    for batch in batches:
        comparison = Comparison(
            profile=batch.profile,
            point=batch.point,
            shape=batch.shape,
            figures=figures(batch.images),
        )
        key = batch.profile, batch.shape
        found[key] = found[key].merged(comparison) if key in found else comparison
    return tuple(sorted(found.values(), key=lambda each: (each.profile is None, each.profile)))


def _finite(value: Any) -> Any:
    """The value with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
