"""Replaces the weights of an engine: loads its plan, replaces every array, and writes the plan.

TensorRT calls a refit complete that leaves numbers of the old weights in the engine, where it does
not let them be replaced. So both sides are compared before anything is set: every array that the
engine offers must be the net's, and all of the net's weights must be on offer. (TensorRT 11.3 is
known to drop a bias from refittable engines; it is then not on offer.)

TensorRT's parser turns an fp32 ``BatchNormalization`` into one factor and one offset a channel and
chooses both names (``tmp_batch_norm_weight`` in 10.0, ``tmp_refittable_weight`` in RTX 1.7). So
those are set by the parser's own refitter.

Sources: the TensorRT Python API reference, ``Refitter`` and ``OnnxParserRefitter``, 10.0 to 11.4;
the TensorRT 11.3 developer guide, "Refitting an Engine"; onnx-tensorrt 10.1, ``ModelRefitter.cpp``.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from vggspec.base.catalogue.refitting import IncompleteRefit, RefitFailed
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.bundle.engine import Engine, Refit
from vggspec.bundle.manifest import MODEL, PLAN
from vggspec.bundle.opening import Bundle
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.compiler.backends.onnx.model import emit
from vggspec.compiler.input_contract import known_mean
from vggspec.compiler.ir import Network
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounded_weights import rounded
from vggspec.compiler.weights import WeightsFile
from vggspec.runtime.tensorrt.api import (
    ICudaEngine,
    ISerializationConfig,
    Library,
    OnnxParserRefitter,
    ParserError,
    Refitter,
)
from vggspec.runtime.tensorrt.load_plan import LoadedPlan, load_plan
from vggspec.runtime.tensorrt.messages import clean, logger

#: Number types of constants, by TensorRT's names.
DTYPES: dict[str, str] = {"FLOAT": "<f4", "INT32": "<i4", "INT64": "<i8"}
PRECISIONS: dict[str, Precision] = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}

MEAN = "image_mean"
STD = "image_std"
SCALE = "image_scale"
"""The constants of a graph that takes raw pixels: they come with the weights, or with the spec."""

Arrays = dict[str, NDArray[Any]]


def refit_of(engine: Engine) -> Refit:
    """Which weights an engine takes; one that is stripped takes back its own unless built for all,
    which is what TensorRT does of itself.
    """
    return "identical" if engine.refit == "none" and engine.is_stripped else engine.refit


class EngineRefit:
    """One refit of a bundle's engine: the objects of TensorRT that must outlive each other."""

    def __init__(
        self,
        trt: Library,
        bundle: Bundle,
        network: Network,
        weights: WeightsFile,
        options: CompileOptions,
    ) -> None:
        assert bundle.manifest.engine is not None
        self._trt: Library = trt
        self._bundle = bundle
        self._engine = bundle.manifest.engine
        self._network = network
        self._weights = weights
        self._options = options
        self._layer_types = number_types(network, options.precision, options.keep_fp32)
        self._types = weight_types(network, self._layer_types)
        self._model = self._graph("declared")
        self._heard, self._logger = logger(trt)

    def run(self, data: bytes, folder: Path) -> int:
        """Load the plan, replace its weights and write it; the number of arrays replaced."""
        trt = self._trt
        loaded = self._load(data)
        try:
            refitter: Refitter = trt.Refitter(loaded.engine, self._logger)
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
        self._write(loaded.engine, folder / PLAN)
        del onnx_refitter, refitter  # in this order: the one refers to the other
        return len(names)

    def refit_left(self, plan: Path) -> Refit:
        """Load the written plan and return which weights it takes."""
        engine: ICudaEngine = self._load(plan.read_bytes()).engine
        is_refittable = bool(engine.refittable)
        return refit_of(self._engine) if is_refittable else "none"

    def _graph(self, weights_as: Literal["declared", "external"]) -> onnx.ModelProto:
        return emit(
            self._network,
            self._weights,
            contract=self._options.contract,
            mean=known_mean(self._network.input),
            is_dynamic=self._options.is_dense,
            types=self._layer_types,
            weights_as=weights_as,
        )

    def _load(self, data: bytes) -> LoadedPlan:
        return load_plan(self._trt, data, self._engine, str(self._bundle.model))

    def _check_names(self, names: tuple[str, ...]) -> None:
        """Compare the arrays that the engine offers with those of the net."""
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
        """The arrays that TensorRT's parser combines into others."""
        nodes = [n for n in self._model.graph.node if n.op_type == "BatchNormalization"]
        return tuple(name for node in nodes for name in node.input[1:])

    def _arrays(self, refitter: Refitter, names: tuple[str, ...]) -> Arrays:
        """All arrays of the net, in the types that the engine requires."""
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
                    raise self._failed(
                        f"it requires `{name}` as {kind}, not {wanted[name]}", of=False
                    )
                wanted[name] = PRECISIONS[kind]
                has = self._weights.tensors[name].bytes // 4
            else:
                if DTYPES.get(kind) != constants[name].dtype.newbyteorder("<").str:
                    raise self._failed(f"it requires `{name}` as {kind}", of=False)
                has = constants[name].size
            if size != has:
                raise self._failed(f"it requires {size} numbers of `{name}`, not {has}", of=False)
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

    def _fill_in(self, refitter: Refitter, arrays: Arrays, folder: Path) -> OnnxParserRefitter:
        """Let TensorRT's parser set the arrays that only it can name."""
        onnx_refitter: OnnxParserRefitter = self._trt.OnnxParserRefitter(refitter, self._logger)
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
            why = "its parser gives no reason"
            if onnx_refitter.num_errors:
                error: ParserError = onnx_refitter.get_error(0)
                why = error.desc()
            raise self._failed(clean(why))
        return onnx_refitter

    def _write(self, engine: ICudaEngine, plan: Path) -> None:
        trt = self._trt
        config: ISerializationConfig = engine.create_serialization_config()
        config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
        include_refit = getattr(trt.SerializationFlag, "INCLUDE_REFIT", None)
        if include_refit is not None:
            config.set_flag(include_refit)
        memory = engine.serialize_with_config(config)
        if memory is None:
            raise self._failed("it gives no plan")
        with open(plan, "wb") as file:
            file.write(memory)

    def _failed(self, otherwise: str, *, of: bool = True) -> VggspecError:
        """An error, with TensorRT's message if there is one and ``of`` is true."""
        return self._error(RefitFailed(reason=self._heard.told(otherwise) if of else otherwise))

    def _error(self, what: Diagnostic) -> VggspecError:
        return VggspecError(report(what, path=str(self._bundle.path)))
