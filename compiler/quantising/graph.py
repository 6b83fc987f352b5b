"""A graph in int8, by ONNX Runtime's quantiser: QDQ, per channel, symmetric.

Weights are int8 with a scale for each output channel; activations int8 with one scale, and zero is
zero. Biases stay float. So one graph serves ONNX Runtime, OpenVINO and TensorRT, whose parser
refuses int32 biases and zero points.

Source: ONNX Runtime, "Quantize ONNX models"; TensorRT, "Working with quantized types".
"""

from collections.abc import Collection

import numpy as np
import onnx

from vggspec.compiler.quantising.ranges import Ranges
from vggspec.compiler.weights import WeightsFile

#: Ops that are quantised. Others compute in fp32, such as averages over space and soft-max.
QUANTISED = ("Conv", "Gemm", "Relu", "Clip", "MaxPool", "Add", "Concat")

CUTS_OFF = ("Relu", "Clip")


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the types of its tensors."""
    found: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
    return found


def in_int8(
    model: onnx.ModelProto, weights: WeightsFile, ranges: Ranges, kept: Collection[str]
) -> onnx.ModelProto:
    """The ``typed`` fp32 graph, whose weights are in a file, as an int8 graph that contains its
    weights. The nodes ``kept`` stay in fp32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    _embed(whole, weights)
    own = {entry.key: entry.value for entry in whole.metadata_props}
    add_infer_metadata(whole)  # otherwise it writes the graph to a file to infer the types again
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in _before_cut(whole.graph, ranges).items()
    }
    quantiser = QDQQuantizer(
        whole,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=list(kept),
        op_types_to_quantize=list(QUANTISED),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
        },
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    result: onnx.ModelProto = quantiser.model.model
    _set_apart(result.graph)
    del result.graph.value_info[:]
    onnx.helper.set_model_props(result, own)
    return result


def _embed(model: onnx.ModelProto, weights: WeightsFile) -> None:
    """Put the weights into the graph."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = weights.read(tensor.name).tobytes()
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def _set_apart(graph: onnx.GraphProto) -> None:
    """Give each reader of a tensor a scale of its own, which differs in the last bit.

    On x86 ONNX Runtime makes uint8 of int8, but not of a tensor that several layers read: those
    would be computed in fp32, since what they read and what they give have different types. Equal
    scales it would merge, and with them the readers.
    """
    arrays = {each.name: each for each in graph.initializer}
    dequantising = {n.input[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    seen: dict[str, int] = {}
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        tensor, name = node.input[0], node.input[1]
        number = seen[tensor] = seen.get(tensor, -1) + 1
        if number == 0:
            continue
        scale = onnx.numpy_helper.to_array(arrays[name])
        for _ in range(number):
            scale = np.nextafter(scale, np.float32(np.inf))
        own = f"{name}_{tensor}_{number}"
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(scale), own))
        node.input[1] = dequantising[node.output[0]].input[1] = own


def _before_cut(graph: onnx.GraphProto, ranges: Ranges) -> Ranges:
    """The ranges, but those of a tensor that only a ReLU reads are those after it: what the ReLU
    cuts off needs no levels.
    """
    readers: dict[str, list[onnx.NodeProto]] = {output.name: [] for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    return ranges | {
        name: ranges[after[0].output[0]]
        for name, after in readers.items()
        if name in ranges
        and name not in outputs
        and len(after) == 1
        and after[0].op_type in CUTS_OFF
    }
