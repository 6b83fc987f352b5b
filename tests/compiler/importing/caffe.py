"""Caffe's files as protobuf itself encodes them, by the fields of the published ``caffe.proto``."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

F = descriptor_pb2.FieldDescriptorProto
_INT, _BOOL, _FLOAT, _DOUBLE, _TEXT, _BYTES = (
    F.TYPE_INT32, F.TYPE_BOOL, F.TYPE_FLOAT, F.TYPE_DOUBLE, F.TYPE_STRING, F.TYPE_BYTES,
)  # fmt: skip
_PACKED, _REPEATED = "packed", "repeated"

#: Message: field: number, type, how often; after ``src/caffe/proto/caffe.proto``.
_PROTO: dict[str, dict[str, tuple[int, Any, str]]] = {
    "BlobShape": {"dim": (1, F.TYPE_INT64, _PACKED)},
    "BlobProto": {
        "num": (1, _INT, ""), "channels": (2, _INT, ""), "height": (3, _INT, ""),
        "width": (4, _INT, ""), "data": (5, _FLOAT, _PACKED), "diff": (6, _FLOAT, _PACKED),
        "shape": (7, "BlobShape", ""), "double_data": (8, _DOUBLE, _PACKED),
        "raw_data_type": (10, _INT, ""), "raw_data": (12, _BYTES, ""),
    },
    "ConvolutionParameter": {
        "num_output": (1, _INT, ""), "pad": (3, _INT, ""), "kernel_size": (4, _INT, ""),
    },
    "InnerProductParameter": {"num_output": (1, _INT, ""), "transpose": (6, _BOOL, "")},
    "PoolingParameter": {
        "pool": (1, _INT, ""), "kernel_size": (2, _INT, ""), "stride": (3, _INT, ""),
    },
    "BatchNormParameter": {"use_global_stats": (1, _BOOL, ""), "eps": (3, _FLOAT, "")},
    "ScaleParameter": {"bias_term": (4, _BOOL, "")},
    "V0LayerParameter": {"name": (1, _TEXT, ""), "type": (2, _TEXT, "")},
    "V1LayerParameter": {
        "layer": (1, "V0LayerParameter", ""), "bottom": (2, _TEXT, _REPEATED),
        "top": (3, _TEXT, _REPEATED), "name": (4, _TEXT, ""), "type": (5, _INT, ""),
        "blobs": (6, "BlobProto", _REPEATED), "blobs_lr": (7, _FLOAT, _REPEATED),
        "convolution_param": (10, "ConvolutionParameter", ""),
        "inner_product_param": (17, "InnerProductParameter", ""),
        "pooling_param": (19, "PoolingParameter", ""),
    },
    "LayerParameter": {
        "name": (1, _TEXT, ""), "type": (2, _TEXT, ""), "bottom": (3, _TEXT, _REPEATED),
        "top": (4, _TEXT, _REPEATED), "blobs": (7, "BlobProto", _REPEATED),
        "convolution_param": (106, "ConvolutionParameter", ""),
        "inner_product_param": (117, "InnerProductParameter", ""),
        "pooling_param": (121, "PoolingParameter", ""),
        "batch_norm_param": (139, "BatchNormParameter", ""),
        "scale_param": (142, "ScaleParameter", ""),
    },
    "NetParameter": {
        "name": (1, _TEXT, ""), "layers": (2, "V1LayerParameter", _REPEATED),
        "input": (3, _TEXT, _REPEATED), "input_dim": (4, _INT, _REPEATED),
        "layer": (100, "LayerParameter", _REPEATED),
    },
}  # fmt: skip


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="caffe.proto", package="tests_caffe", syntax="proto2"
    )
    for name, fields in _PROTO.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, often) in fields.items():
            made = message.field.add(name=field, number=number)
            made.label = F.LABEL_REPEATED if often else F.LABEL_OPTIONAL
            if isinstance(kind, str):
                made.type, made.type_name = F.TYPE_MESSAGE, f".tests_caffe.{kind}"
            else:
                made.type = kind
            if often == _PACKED:
                made.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tests_caffe.{name}"))
        for name in _PROTO
    }


MESSAGES = _classes()


def blob(array: NDArray[Any], kind: str = "shape") -> Any:
    """An array as Caffe keeps it: today, before 2014 with four axes, as doubles, or as NVIDIA's
    Caffe keeps halves.
    """
    made = MESSAGES["BlobProto"]()
    if kind == "legacy":
        sides = (1,) * (4 - array.ndim) + array.shape
        made.num, made.channels, made.height, made.width = sides
    else:
        made.shape.dim.extend(array.shape)
    if kind == "double":
        made.double_data.extend(array.ravel().tolist())
    elif kind == "half":
        made.raw_data_type, made.raw_data = 2, array.astype("<f2").tobytes()
    else:
        made.data.extend(array.ravel())
    return made


def vgg16(by: int = 1, classes: int = 1000) -> list[tuple[str, str, int]]:
    """The layers of the published ``VGG_ILSVRC_16_layers_deploy.prototxt``: name, kind, outputs,
    with a part of the channels.
    """
    layers: list[tuple[str, str, int]] = []
    for stage, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for i in range(1, depth + 1):
            layers.append((f"conv{stage}_{i}", "CONVOLUTION", width // by))
            layers.append((f"relu{stage}_{i}", "RELU", 0))
        layers.append((f"pool{stage}", "POOLING", 0))
    for i in (6, 7):
        layers.append((f"fc{i}", "INNER_PRODUCT", 4096 // by))
        layers += [(f"relu{i}", "RELU", 0), (f"drop{i}", "DROPOUT", 0)]
    return [*layers, ("fc8", "INNER_PRODUCT", classes), ("prob", "SOFTMAX", 0)]


_V1_NUMBERS = {
    "CONVOLUTION": 4, "INNER_PRODUCT": 14, "POOLING": 17, "RELU": 18, "DROPOUT": 6, "SOFTMAX": 20,
}  # fmt: skip
_V2_NAMES = {
    "CONVOLUTION": "Convolution", "INNER_PRODUCT": "InnerProduct", "POOLING": "Pooling",
    "RELU": "ReLU", "DROPOUT": "Dropout", "SOFTMAX": "Softmax",
}  # fmt: skip


def model(
    layers: Iterable[tuple[str, str, int]], arrays: Sequence[NDArray[Any]], version: int
) -> Any:
    """A net of that version with the arrays of its layers in their order, weight and bias each."""
    net = MESSAGES["NetParameter"](name="VGG_ILSVRC_16_layers", input=["data"])
    net.input_dim.extend((10, 3, 224, 224))
    left = iter(arrays)
    bottom = "data"
    for name, kind, outputs in layers:
        layer = (net.layers if version == 1 else net.layer).add(name=name)
        layer.type = _V1_NUMBERS[kind] if version == 1 else _V2_NAMES[kind]
        top = name if kind not in ("RELU", "DROPOUT") else bottom
        layer.bottom.append(bottom)
        layer.top.append(top)
        bottom = top
        if kind == "POOLING":
            layer.pooling_param.kernel_size = layer.pooling_param.stride = 2
        if outputs:
            if kind == "CONVOLUTION":
                layer.convolution_param.num_output = outputs
                layer.convolution_param.pad, layer.convolution_param.kernel_size = 1, 3
            else:
                layer.inner_product_param.num_output = outputs
            style = "legacy" if version == 1 else "shape"
            layer.blobs.extend(blob(next(left), style) for _ in range(2))
            if version == 1:
                layer.blobs_lr.extend((1, 2))
    assert next(left, None) is None
    return net
