"""Other weights in an engine that is built already: its plan is loaded, every array replaced, and a
new bundle written.

TensorRT calls a refit complete that leaves numbers of the old weights in the engine, where it does
not let them be replaced. So both sides are held against each other before anything is set: what the
engine offers must be of the net, and all of the net's weights must be on offer. (TensorRT 11.3 is
known to drop a bias from refittable engines; it is then not on offer.)

TensorRT's parser turns an fp32 ``BatchNormalization`` into one factor and one offset a channel and
names both as it likes (``tmp_batch_norm_weight`` in 10.0, ``tmp_refittable_weight`` in RTX 1.7).
So the same parser's refitter fills in those.

Sources: the TensorRT Python API reference, ``Refitter`` and ``OnnxParserRefitter``, 10.0 to 11.4;
the TensorRT 11.3 developer guide, "Refitting an Engine"; onnx-tensorrt 10.1, ``ModelRefitter.cpp``.
"""

import functools
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from vggspec.base.catalogue.refitting import (
    IncompleteRefit,
    NoEngineToRefit,
    NotRefittable,
    OtherThanStripped,
    RefitFailed,
)
from vggspec.base.catalogue.running import PlanRefused
from vggspec.base.diagnostic import Diagnostic, MissingLibraryError, VggspecError, report
from vggspec.base.files import place, replacing_folder
from vggspec.base.version import __version__
from vggspec.bundle.engine import Engine, Refit
from vggspec.bundle.manifest import (
    LAYERS,
    MODEL,
    PLAN,
    WEIGHTS,
    Bundle,
    Manifest,
    Precision,
    file_entry,
)
from vggspec.compiler.backends.onnx.model import OnnxOptions, emit, prepare
from vggspec.compiler.backends.tensorrt.build import ERROR, clean
from vggspec.compiler.bundles.engine import checking
from vggspec.compiler.bundles.net import options_of
from vggspec.compiler.bundles.writer import (
    WeightsBy,
    check_place,
    labels_of,
    place_weights,
    write_reference,
    write_texts,
)
from vggspec.compiler.input_contract import MeanFrom, formula, known_mean, settled
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounding import rounded
from vggspec.compiler.weights import WeightsFile, for_net
from vggspec.runtime.compatibility import compare_bundle, compile_command
from vggspec.runtime.machine import Machine
from vggspec.runtime.tensorrt import seam

#: What a machine may lack for a refit: it runs nothing, and brings the weights itself.
NOT_NEEDED = ("pycuda", "weights")

#: Number types of constants, by TensorRT's names.
DTYPES: dict[str, str] = {"FLOAT": "<f4", "INT32": "<i4", "INT64": "<i8"}
PRECISIONS: dict[str, Precision] = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}

MEAN = "image_mean"
STD = "image_std"
SCALE = "image_scale"
"""The constants of a graph that takes raw pixels: they come with the weights, or with the spec."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Refitted:
    """What was written."""

    manifest: Manifest
    num_arrays: int
    mean_from: MeanFrom
    weights_by: WeightsBy
    notes: tuple[str, ...]
    """What is other than before besides the weights, in words."""


def check_engine(bundle: Bundle, weights: str | os.PathLike[str], machine: Machine) -> None:
    """Refuse a bundle whose engine takes no other weights, before anything else is looked at.

    Raises:
        VggspecError: the bundle holds no engine, or one that is not refittable.
    """
    manifest, path = bundle.manifest, str(bundle.path)
    engine = manifest.engine
    if engine is None:
        raise VggspecError(report(NoEngineToRefit(weights=str(weights)), path=path))
    if refit_of(engine) == "none":
        refittable = replace(manifest, engine=replace(engine, refit="all"))
        commands = compile_command(refittable, bundle=path, machine=machine)
        raise VggspecError(report(NotRefittable(commands=commands), path=path))


def check(bundle: Bundle, network: Network, weights: WeightsFile, machine: Machine) -> WeightsFile:
    """Refuse at once what cannot be refitted with these weights, or not here; nothing is loaded.

    Raises:
        VggspecError: as ``check_engine`` and ``for_net``; or the weights are others than those that
            the engine takes back.
        MissingLibraryError: the machine lacks something, or is another one than the engine's.
    """
    check_engine(bundle, weights.path, machine)
    weights = for_net(weights, network)
    manifest = bundle.manifest
    assert manifest.engine is not None
    wanted = next((entry.sha256 for entry in manifest.files if entry.path == WEIGHTS), "")
    found = weights.data_sha256()
    if refit_of(manifest.engine) == "identical" and found != wanted:
        what = OtherThanStripped(wanted=wanted, found=found)
        raise VggspecError(report(what, path=str(weights.path)))
    for finding in compare_bundle(manifest, machine):
        if finding.level == "problem" and finding.subject not in NOT_NEEDED:
            raise MissingLibraryError(
                f"the engine cannot be refitted here: {finding.subject}: {finding.text};"
                f" `vggspec doctor {bundle.path}` tells all"
            )
    return weights


def refit_of(engine: Engine) -> Refit:
    """Which weights an engine takes; one that is stripped takes back its own unless built for all,
    which is what TensorRT does of itself.
    """
    return "identical" if engine.refit == "none" and engine.is_stripped else engine.refit


def refit(
    bundle: Bundle,
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    machine: Machine,
    *,
    copy_weights: bool = False,
) -> Refitted:
    """Write a bundle with the engine of another and new weights; ``out`` may be that other one.

    ``lowered`` is the net of the spec in the manifest. The plan is native code, and loaded.

    Raises:
        VggspecError: as ``check``; or the plan was changed, TensorRT refuses it or the weights, or
            some numbers of the engine would not be of the new weights.
        MissingLibraryError: as ``check``, or that flavour of TensorRT does not load.
    """
    target, manifest = Path(out), bundle.manifest
    check_place(target)
    options = replace(options_of(manifest), copy_weights=copy_weights)
    lowered, mean_from = settled(lowered, weights)
    network = prepare(lowered.network, options)
    weights = check(bundle, network, weights, machine)
    engine = manifest.engine
    assert engine is not None
    mean = known_mean(network.input)
    trt = seam.load(engine.flavour, "refitting an engine")
    # Only then: a plan is native code.
    data = bundle.read_model()
    with replacing_folder(target) as folder:
        by, weights_entry = place_weights(folder, weights, copy=copy_weights)
        work = _Work(trt, bundle, network, weights, options)
        with checking(weights) as check_digest:
            num_arrays = work.run(data, folder)
            check_digest()
        files = [
            file_entry(folder, PLAN),
            replace(weights_entry, is_needed=False),
            write_reference(folder, network, weights, options, mean),
        ]
        if (bundle.path / LAYERS).is_file():
            place(bundle.path / LAYERS, folder / LAYERS, copy=True)
            files.append(file_entry(folder, LAYERS, is_needed=False))
        written = replace(
            manifest,
            input=replace(
                manifest.input, mean=mean, std=network.input.std, scale=network.input.scale
            ),
            labels=labels_of(weights, manifest.result),
            engine=replace(engine, refit=work.refit_left(folder / PLAN), is_stripped=False),
            model=PLAN,
            tools={**manifest.tools, "vggspec": __version__, "onnx": onnx.__version__},
            files=tuple(files),
        )
        write_texts(folder, written)
    return Refitted(written, num_arrays, mean_from, by, tuple(_changes(manifest, written)))


def _changes(before: Manifest, after: Manifest) -> Iterable[str]:
    """What came with the weights and is not a weight."""
    if after.input.mean != before.input.mean:
        old, new = (" ".join(f"{n:g}" for n in each.input.mean) for each in (before, after))
        yield f"mean: {new} from now on, and {old} before"
    if (after.input.std, after.input.scale) != (before.input.std, before.input.scale):
        old, new = (
            formula(each.input.mean, each.input.std, each.input.scale) for each in (before, after)
        )
        yield f"input: {new} from now on, and {old} before"
    if after.labels != before.labels:
        yield (
            "labels: those of the new weights, which differ from the old ones"
            if after.labels
            else "labels: the new weights have none, so classes are told by number"
        )
    assert after.engine is not None
    if after.engine.refit == "none":
        yield "this TensorRT makes an engine that takes weights only once: refit the old one again"


@functools.cache
def _logger(trt: Any) -> tuple[deque[str], Any]:
    # One for the process: TensorRT keeps the first that it is given, also past the runtime's end.
    errors: deque[str] = deque(maxlen=20)

    def hear(severity: int, text: str) -> None:
        if severity <= ERROR:
            errors.append(text)

    return errors, seam.make_logger(trt, hear)


class _Work:
    """One refit: the objects of TensorRT that must outlive each other, and what it is given."""

    def __init__(
        self,
        trt: Any,
        bundle: Bundle,
        network: Network,
        weights: WeightsFile,
        options: OnnxOptions,
    ) -> None:
        assert bundle.manifest.engine is not None
        self._trt = trt
        self._bundle = bundle
        self._engine = bundle.manifest.engine
        self._network = network
        self._weights = weights
        self._options = options
        self._layer_types = number_types(network, options.precision, options.keep_fp32)
        self._types = weight_types(network, self._layer_types)
        self._model = self._graph("declared")
        self._errors, self._logger = _logger(trt)
        self._engine_runtime: Any = None  # which an engine must not outlive

    def run(self, data: bytes, folder: Path) -> int:
        """Load the plan, replace its weights and write it; the number of arrays replaced."""
        trt = self._trt
        plan_engine = self._load(data)
        try:
            refitter = trt.Refitter(plan_engine, self._logger)
        except (RuntimeError, TypeError) as error:  # what pybind makes of a null pointer
            raise self._failed("it takes no other weights") from error
        names = tuple(refitter.get_all_weights())
        self._check_names(names)
        arrays = self._arrays(refitter, names)
        # It owns the arrays that it makes, until they are in the engine.
        onnx_refitter = None
        if set(names) - set(arrays):
            onnx_refitter = self._fill_in(refitter, arrays, folder)
        for name in names:
            if name in arrays and not refitter.set_named_weights(
                name, self._as_weights(arrays[name])
            ):
                raise self._failed(f"it does not take `{name}`")
        missing = tuple(refitter.get_missing_weights())
        if missing:
            raise self._error(IncompleteRefit(missing=missing))
        if not refitter.refit_cuda_engine():
            raise self._failed("it does not say why")
        self._write(plan_engine, folder / PLAN)
        del onnx_refitter, refitter  # in this order: the one refers to the other
        return len(names)

    def refit_left(self, plan: Path) -> Refit:
        """Load what was written: which weights it takes now."""
        plan_engine = self._load(plan.read_bytes())
        is_refittable = bool(plan_engine.refittable)
        return refit_of(self._engine) if is_refittable else "none"

    def _graph(self, weights_as: Literal["declared", "external"]) -> onnx.ModelProto:
        return emit(
            self._network,
            self._weights,
            contract=self._options.contract,
            mean=known_mean(self._network.input),
            is_dynamic=self._options.form == "dense",
            types=self._layer_types,
            weights_as=weights_as,
        )

    def _load(self, data: bytes) -> Any:
        self._errors.clear()
        why: str | None = None
        try:
            engine_runtime = self._trt.Runtime(self._logger)
            if self._engine.is_version_compatible:
                # Such a plan carries a small runtime of its own version.
                engine_runtime.engine_host_code_allowed = True
            plan_engine = engine_runtime.deserialize_cuda_engine(data)
        except (RuntimeError, TypeError) as error:  # what pybind makes of a null pointer
            why = self._said(clean(str(error)))
        else:
            if plan_engine is not None:
                self._errors.clear()  # whatever it said, it was not the cause of what comes
                self._engine_runtime = engine_runtime
                return plan_engine
            why = self._said("it does not say why")
        title = seam.FLAVOURS[self._engine.flavour].title
        what = PlanRefused(
            reason=why,
            built_by=f"{title} {self._engine.version}",
            here=f"{title} {self._trt.__version__}",
        )
        raise VggspecError(report(what, path=str(self._bundle.model)))

    def _check_names(self, names: tuple[str, ...]) -> None:
        """Hold the arrays that the engine offers against those of the net."""
        known = {tensor.name for tensor in self._model.graph.initializer}
        combined = self._combined()
        strange = tuple(name for name in names if name not in known)
        # A factor and an offset, made of a weight, a bias, a mean and a variance.
        has_combined = len(strange) == len(combined) // 2
        wanted = [name for name in self._types if not (has_combined and name in combined)]
        if refit_of(self._engine) == "identical":
            # What it keeps is the same: the weights are those that it was built from.
            wanted, has_combined = [], bool(combined)
        wanted += self._other_constants()
        kept = tuple(name for name in wanted if name not in names)
        if kept or (strange and not has_combined):
            strange = () if has_combined else strange
            raise self._error(IncompleteRefit(strange=strange, kept=kept))

    def _other_constants(self) -> list[str]:
        """The constants of a graph that takes raw pixels that are other than the engine's."""
        now, before = self._network.input, self._bundle.manifest.input
        if self._options.contract != "raw":
            return []
        is_other = {
            MEAN: now.mean != before.mean,
            STD: now.std != before.std,
            SCALE: now.std is None and before.std is None and now.scale != before.scale,
        }
        # Where only one of the two has such a constant, the engine is another one.
        return [name for name, is_changed in is_other.items() if is_changed]

    def _combined(self) -> tuple[str, ...]:
        """The arrays that TensorRT's parser makes others of."""
        nodes = [n for n in self._model.graph.node if n.op_type == "BatchNormalization"]
        return tuple(name for node in nodes for name in node.input[1:])

    def _arrays(self, refitter: Any, names: tuple[str, ...]) -> Arrays:
        """All arrays of the net, in the types that the engine wants."""
        trt = self._trt
        types = {int(getattr(trt.DataType, name)): name for name in (*DTYPES, *PRECISIONS)}
        constants = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in self._model.graph.initializer
            if tensor.data_location != TensorProto.EXTERNAL
        }
        wanted = dict(self._types)
        for name in names:
            if name not in wanted and name not in constants:
                continue
            prototype = refitter.get_weights_prototype(name)
            kind = types.get(int(prototype.dtype), str(prototype.dtype))
            size = prototype.size
            if name in wanted:
                # A release that is given casts instead of rounded weights keeps them in fp32.
                if PRECISIONS.get(kind) not in ("fp32", wanted[name]):
                    raise self._failed(f"it wants `{name}` as {kind}, not {wanted[name]}", of=False)
                wanted[name] = PRECISIONS[kind]
                has = self._weights.tensors[name].bytes // 4
            else:
                if DTYPES.get(kind) != constants[name].dtype.newbyteorder("<").str:
                    raise self._failed(f"it wants `{name}` as {kind}", of=False)
                has = constants[name].size
            if size != has:
                raise self._failed(f"it wants {size} numbers of `{name}`, not {has}", of=False)
        arrays = rounded(self._weights, wanted)
        offered = set(names)
        return {
            **arrays,
            **{k: np.ascontiguousarray(v) for k, v in constants.items() if k in offered},
        }

    def _as_weights(self, array: NDArray[Any]) -> Any:
        """An array for TensorRT, which does not copy it."""
        trt = self._trt
        kinds = {
            "float32": trt.DataType.FLOAT,
            "float16": trt.DataType.HALF,
            "bfloat16": trt.DataType.BF16,
            "int32": trt.DataType.INT32,
            "int64": trt.DataType.INT64,
        }
        return trt.Weights(kinds[array.dtype.name], array.ctypes.data, array.size)

    def _fill_in(self, refitter: Any, arrays: Mapping[str, NDArray[Any]], folder: Path) -> Any:
        """Have TensorRT's parser set what only it can name."""
        onnx_refitter = self._trt.OnnxParserRefitter(refitter, self._logger)
        if hasattr(onnx_refitter, "load_initializer"):
            is_set = onnx_refitter.load_model_proto(self._model.SerializeToString())
            for name in self._types:
                data = arrays[name]
                is_set = is_set and onnx_refitter.load_initializer(
                    name, data.ctypes.data, data.nbytes
                )
            is_set = is_set and onnx_refitter.refit_model_proto()
        else:
            # The graph points at the weights beside it, where it would lie.
            graph = self._graph("external").SerializeToString()
            is_set = onnx_refitter.refit_from_bytes(graph, str(folder / MODEL))
        if not is_set:
            number = onnx_refitter.num_errors
            why = onnx_refitter.get_error(0).desc() if number else "its parser gives no reason"
            raise self._failed(clean(why))
        return onnx_refitter

    def _write(self, plan_engine: Any, plan: Path) -> None:
        trt = self._trt
        serialization_config = plan_engine.create_serialization_config()
        serialization_config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
        include_refit = getattr(trt.SerializationFlag, "INCLUDE_REFIT", None)
        if include_refit is not None:
            serialization_config.set_flag(include_refit)
        memory = plan_engine.serialize_with_config(serialization_config)
        if memory is None:
            raise self._failed("it gives no plan")
        with open(plan, "wb") as file:
            file.write(memory)

    def _said(self, otherwise: str) -> str:
        """The first thing that went wrong, in TensorRT's words."""
        return clean(self._errors[0]) if self._errors else otherwise

    def _failed(self, otherwise: str, *, of: bool = True) -> VggspecError:
        """An error in TensorRT's words where it has some and ``of`` asks for them."""
        return self._error(RefitFailed(reason=self._said(otherwise) if of else otherwise))

    def _error(self, what: Diagnostic) -> VggspecError:
        return VggspecError(report(what, path=str(self._bundle.path)))
