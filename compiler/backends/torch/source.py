"""A network as a PyTorch source file that one can read, keep and change; it needs torch alone."""

import keyword
import re
from collections import Counter
from collections.abc import Container, Sequence
from math import isinf
from typing import Any

from vggspec.base.diagnostic import VggspecError
from vggspec.base.version import __version__
from vggspec.bundle.sizes import Remainders
from vggspec.compiler.backends.torch.toolkit import made_by
from vggspec.compiler.ir import IMAGE, ImageInput, Layer, Network
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.sizes import sizes

#: Ops written around the layer before them.
_SHARES_A_LINE = ("relu", "ReLU6", "SiLU", "BN", "dropout", "LRN")


_ALL = Remainders(1, (0,))

#: Names of the file that a net's class must not take.
_NAMES = ("exported", "json", "load", "nn", "struct", "torch")


class _Text(str):
    """The text of an expression, which may be part of another."""

    __slots__ = ()

    def __add__(self, other: str) -> "_Text":
        return _Text(f"{self} + {other}")

    def __mul__(self, other: "_Text") -> "_Text":  # type: ignore[override]
        return _Text(f"{self} * {other}")

    def __floordiv__(self, other: "_Text") -> "_Text":
        return _Text(f"{self} // {other}")

    @property
    def shape(self) -> "_Shape":
        """The shape of the tensor that the expression gives."""
        return _Shape(self)

    @property
    def device(self) -> "_Text":
        """The device on which it is."""
        return _Text(f"{self}.device")


class _Shape:
    """The shape of a tensor, by the text of the expression that gives the tensor."""

    def __init__(self, tensor: _Text) -> None:
        self._tensor = tensor

    def __getitem__(self, key: int | slice) -> _Text:
        text = str(key) if isinstance(key, int) else f"{key.start}:"
        return _Text(f"{self._tensor}.shape[{text}]")


class _Recorder:
    """Replaces a module of Python and returns the text of each call of its functions."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "_Recorder":
        return _Recorder(f"{self._name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> _Text:
        words = [_written(arg) for arg in args]
        words += [f"{key}={_written(value)}" for key, value in kwargs.items()]
        return _Text(f"{self._name}({', '.join(words)})")


def _written(argument: object) -> str:
    if isinstance(argument, _Text):
        return argument
    if isinstance(argument, list):
        return f"[{', '.join(map(_written, argument))}]"
    is_infinite = isinstance(argument, float) and isinf(argument)
    return f'float("{argument}")' if is_infinite else repr(argument)


def emit(network: Network, mean: tuple[float, ...] | None, origin: str) -> str:
    """The source text of a network; ``origin`` names the spec it comes from."""
    name = class_name(network.name)
    calls = made_by(network, _Recorder("nn"))
    members = {name: call for name, call in calls.items() if call is not None}
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
        members="\n        ".join(f"self.{name} = {call}" for name, call in members.items()),
        forward="\n        ".join(_forward(network, members)),
        exported=_exported(network),
    )


def class_name(net: str) -> str:
    """A name of Python for a net: ``A-LRN`` becomes ``A_LRN``."""
    name = re.sub(r"\W", "_", net)
    return f"{name}_" if keyword.iskeyword(name) or name in _NAMES else name


def _is_dense(network: Network) -> bool:
    return all(network.types_of(layer)[0].is_map for layer in network.weight_layers)


def _exported(network: Network) -> str:
    """The function that calls ``torch.export``; empty for a net whose sizes it cannot describe."""
    is_rounded_up = any(isinstance(layer.op, MaxPool) and layer.op.ceil for layer in network.layers)
    if not _is_dense(network) or not network.parameters or is_rounded_up:
        return ""
    is_cut = any(isinstance(layer.op, Crop) for layer in network.layers)
    try:
        found = sizes(network)
    except VggspecError:
        return ""  # branches of different strides meet at a few sizes only
    axes = (_ALL, _ALL) if found.sizes == "any" else found.sizes.axes
    if is_cut and any(axis.is_any for axis in axes):
        return ""  # PyTorch does not prove that a map holds another one for all sizes
    if any(len(axis.remainders) > 1 for axis in axes):
        return ""  # a Dim is a multiple of another, plus one remainder
    height, width = found.least
    which = "" if found.sizes == "any" else f", {found.sizes}"
    return _EXPORTED.format(
        least=f"{height} × {width}",
        which=which,
        image=(2, network.input.channels, *map(_first, axes, found.least)),
        height=_dim("height", axes[0], height),
        width=_dim("width", axes[1], width),
    )


def _dim(name: str, axis: Remainders, least: int) -> str:
    """The sizes of an axis from ``least`` on, as ``torch.export`` takes them."""
    (rest,) = axis.remainders
    if axis.is_any:
        return f'Dim("{name}", min={least}, max=largest)'
    high, more = (f"(largest - {rest})", f" + {rest}") if rest else ("largest", "")
    low = (least - rest) // axis.period
    return f'{axis.period} * Dim("{name}", min={low}, max={high} // {axis.period}){more}'


def _first(axis: Remainders, least: int) -> int:
    """The size at which it is traced: PyTorch takes a Dim of 0 or 1 for a constant."""
    (rest,) = axis.remainders
    return max((least - rest) // axis.period, 2) * axis.period + rest


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


def _forward(network: Network, members: Container[str]) -> list[str]:
    """Statements, a line for a weight layer and what follows it."""
    statements = _statements(network)
    results = [chain[-1].name for chain in statements]
    number = {name: i for i, name in enumerate(results)}
    last_read = dict.fromkeys(results, -1)
    for i, chain in enumerate(statements):
        last_read.update((name, i) for name in chain[0].inputs if name != IMAGE)
    last_read.update((output.layer, len(results)) for output in network.outputs)
    named = {output.layer: output.name for output in network.outputs[1:]}
    taken = {"x", "image", "self", "torch", "nn"}

    def variable(result: str) -> str:
        """``x`` for what only the next statement reads, else a name of its own."""
        if result not in named and last_read[result] <= number[result] + 1:
            return "x"
        own = named.get(result, result)
        while own in taken:  # a tap may be called as one layer and be the result of another
            own += "_"
        taken.add(own)
        return own

    variables = {IMAGE: "image"} | {result: variable(result) for result in results}
    torch = _Recorder("torch")
    lines = []
    for chain in statements:
        read = [_Text(variables[name]) for name in chain[0].inputs]
        for layer in chain:
            if layer.name in members:
                expression = _Text(f"self.{layer.name}({', '.join(read)})")
            else:
                expression = layer.op.call_torch(torch, *read)
            read = [expression]
        lines.append(f"{variables[chain[-1].name]} = {expression}")
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


def _statements(network: Network) -> list[list[Layer]]:
    """Chains of layers, each of which is one expression: no other layer reads what is inside."""
    outputs = {output.layer for output in network.outputs}
    readers = Counter(name for layer in network.layers for name in layer.inputs)
    chains: list[list[Layer]] = []
    for layer in network.layers:
        source = layer.inputs[0]
        if (
            chains
            and chains[-1][-1].name == source
            and source not in outputs
            and readers[source] == 1
            and layer.op.keyword in _SHARES_A_LINE
        ):
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains


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
{exported}'''

_EXPORTED = '''

def exported(net, largest=4096):
    """The program that ``torch.export`` makes of the net, which runs without this file.

    It takes any number of images of {least} pixels to ``largest`` a side{which}.
    """
    from torch.export import Dim, export
    from torch.fx.experimental import _config

    image = torch.zeros({image}, device=next(net.parameters()).device)
    height = {height}
    width = {width}
    # Without it PyTorch refuses the sizes at which a map has one position.
    with _config.patch(backed_size_oblivious=True):
        shapes = {{0: Dim("images"), 2: height, 3: width}}
        return export(net, (image,), dynamic_shapes=(shapes,))
'''
