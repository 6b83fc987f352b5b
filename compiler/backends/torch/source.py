"""A network as a PyTorch source file that one can read, keep and change; it needs torch alone."""

import keyword
import re
from collections.abc import Callable, Sequence
from math import isinf
from typing import Any

from vggspec.base.version import __version__
from vggspec.compiler.ir import IMAGE, ImageInput, Layer, Network


class _Call(str):
    """The text of a call, which may be an argument of another."""

    __slots__ = ()


class _Recorder:
    """Replaces ``torch.nn`` and returns the text of each call."""

    def __getattr__(self, module: str) -> Callable[..., _Call]:
        def call(*args: Any, **kwargs: Any) -> _Call:
            words = [_written(arg) for arg in args]
            words += [f"{key}={_written(value)}" for key, value in kwargs.items()]
            return _Call(f"nn.{module}({', '.join(words)})")

        return call


def _written(argument: object) -> str:
    if isinstance(argument, _Call):
        return argument
    is_infinite = isinstance(argument, float) and isinf(argument)
    return f'float("{argument}")' if is_infinite else repr(argument)


def emit(network: Network, mean: tuple[float, ...] | None, origin: str) -> str:
    """The source text of a network; ``origin`` names the spec it comes from."""
    name = class_name(network.name)
    recorder = _Recorder()
    members = [
        f"self.{layer.name} = {layer.op.to_torch(recorder, network.type_of(layer.inputs[0]))}"
        for layer in network.layers
    ]
    layers = len(network.weight_layers)
    shapes = ", ".join(
        f"{output.name} {_batch(network.type_of(output.layer).shape)}" for output in network.outputs
    )
    image = _batch(network.input.type.shape)
    takes_any = "of this or a larger size " if _is_dense(network) else ""
    return _TEMPLATE.format(
        title=f"Net {network.name}: {layers} weight layers, {network.parameters} parameters.",
        origin=origin,
        version=__version__,
        name=name,
        takes=f"Takes float32 ``{image}`` {takes_any}and gives {shapes}.",
        contract=_contract(network.input, mean),
        members="\n        ".join(members),
        forward="\n        ".join(_forward(network)),
    )


def class_name(net: str) -> str:
    """A name of Python for a net: ``A-LRN`` becomes ``A_LRN``."""
    name = re.sub(r"\W", "_", net)
    return f"{name}_" if keyword.iskeyword(name) or name in ("nn", "torch", "load") else name


def _is_dense(network: Network) -> bool:
    return all(network.type_of(layer.inputs[0]).is_map for layer in network.weight_layers)


def _batch(shape: Sequence[int]) -> str:
    return f"(N, {', '.join(str(n) for n in shape)})"


def _contract(image: ImageInput, mean: tuple[float, ...] | None) -> str:
    pixel = {"RGB": "RGB", "BGR": "channels in the order BGR", "gray": "gray"}[image.color]
    text = f"Pixels are {pixel}, from 0 to 255, less the mean"
    text += f" {_numbers(mean)}" if mean else " of the training images"
    if image.std is not None:
        text += f", divided by {_numbers(image.std)}"
    if image.scale != 1:
        text += f", times {image.scale:g}"
    return text + "."


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _forward(network: Network) -> list[str]:
    """Statements, a line for a weight layer and what follows it."""
    named = {output.layer: output.name for output in network.outputs[1:]}
    lines: list[str] = []
    variables = {IMAGE: "image"}
    pending: Layer | None = None
    expression = ""

    def flush() -> None:
        nonlocal pending, expression
        if pending is not None:
            variable = named.get(pending.name, "x")
            lines.append(f"{variable} = {expression}")
            variables[pending.name] = variable
        pending, expression = None, ""

    for layer in network.layers:
        source = layer.inputs[0]
        joins = (
            pending is not None
            and pending.name == source
            and pending.name not in named
            and not layer.op.is_weight_layer
            and layer.op.keyword in ("relu", "BN", "dropout", "LRN")
        )
        if not joins:
            flush()
        expression = f"self.{layer.name}({expression if joins else variables[source]})"
        pending = layer
    flush()
    result = variables[network.outputs[0].layer]
    if len(network.outputs) == 1:
        if lines[-1].startswith("x = ") and result == "x":
            lines[-1] = f"return {lines[-1].removeprefix('x = ')}"
        else:
            lines.append(f"return {result}")
    else:
        pairs = [f'"{out.name}": {variables[out.layer]}' for out in network.outputs]
        lines.append(f"return {{{', '.join(pairs)}}}")
    return lines


_TEMPLATE = '''"""{title}

Written by vggspec {version} from {origin}; it needs torch alone.

    net = load("weights.safetensors")
"""

import json
import struct

import torch
from torch import nn


class {name}(nn.Module):
    """{takes}

    {contract}
    """

    def __init__(self):
        super().__init__()
        {members}

    def forward(self, image):
        {forward}


def load(path):
    """The net with the weights of a safetensors file, ready to classify."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        size = file.seek(0, 2)
    data = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)[8 + length :]
    net = {name}()
    state = net.state_dict()
    for key, entry in header.items():
        if key in state and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            # FC weights applied as convolutions are the same numbers in another shape.
            state[key] = data[begin:end].clone().view(torch.float32).reshape(state[key].shape)
    missing = [key for key in state if key not in header and "num_batches" not in key]
    if missing:
        raise ValueError(f"{{path}} has no {{', '.join(missing)}}")
    net.load_state_dict(state)
    return net.eval()
'''
