"""A plain reading of a net with ``torch.nn.functional``, for crops and for whole images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as f

from vggspec.compiler.ir import IMAGE, Layer, Network

Tensors = dict[str, Tensor]


def interpreted(
    net: Network, w: Mapping[str, Tensor], image: Tensor, *, dense: bool = False
) -> Tensors:
    """Every tensor of a net, by the layers' names, with batch statistics as they are stored.

    ``dense`` slides FC layers over the whole map: vectors are maps then, flattened maps too.
    """
    found: Tensors = {IMAGE: image}
    windows: dict[str, tuple[int, int]] = {}
    for layer in net.layers:
        x = [found[name] for name in layer.inputs]
        if dense:
            kind = net.type_of(layer.inputs[0])
            windows[layer.name] = kind.size if kind.is_map else windows[layer.inputs[0]]
            if layer.op.keyword == "FC":
                weight = w[f"{layer.name}.weight"]
                weight = weight.reshape(weight.shape[0], -1, *windows[layer.name])
                found[layer.name] = f.conv2d(x[0], weight, w.get(f"{layer.name}.bias"))
                windows[layer.name] = (1, 1)
                continue
            if layer.op.keyword == "flatten":
                found[layer.name] = x[0]
                continue
        found[layer.name] = _computed(layer, x, w)
    return found


def _computed(layer: Layer, x: list[Tensor], w: Mapping[str, Tensor]) -> Tensor:
    op: Any = layer.op
    first = x[0]
    weight, bias = w.get(f"{layer.name}.weight"), w.get(f"{layer.name}.bias")
    match layer.op.keyword:
        case "conv" | "dwconv":
            assert weight is not None
            weight = weight.reshape(weight.shape[0], -1, *op.kernel_size)
            groups = first.shape[1] if layer.op.keyword == "dwconv" else op.groups
            more = (op.stride, op.padding, op.dilation, groups)
            return f.conv2d(first, weight, bias, *more)
        case "FC":
            assert weight is not None
            return f.linear(first, weight, bias)
        case "BN":
            statistics = w[f"{layer.name}.running_mean"], w[f"{layer.name}.running_var"]
            return f.batch_norm(first, *statistics, weight, bias, eps=op.eps)
        case "maxpool" | "avgpool":
            return _pooled(layer, first)
        case "LRN":
            return _normalised(layer, first)
        case "gap":
            return first.mean((2, 3), keepdim=True)
        case "shortcut":
            part = first[:, :, :: op.stride, :: op.stride]
            more_channels = op.out_channels - part.shape[1]
            zeros = part.new_zeros(part.shape[0], more_channels, *part.shape[2:])
            return torch.cat([part, zeros], 1)
        case "add":
            return torch.stack(x).sum(0)
        case "concat":
            return torch.cat(x, 1)
        case "relu":
            return f.relu(first)
        case "ReLU6":
            return first.clamp(0, 6)
        case "SiLU":
            return first * torch.sigmoid(first)
        case "soft-max":
            return first.softmax(1)
        case "flatten":
            return first.reshape(first.shape[0], -1)
        case "dropout" | "boxes":
            return first
    raise NotImplementedError(layer.op.keyword)


def _pooled(layer: Layer, x: Tensor) -> Tensor:
    """Windows of a map that is padded by hand, those that begin in the padding at the end left
    out; an average counts what lies in the map, and the padding where it is told to.
    """
    op: Any = layer.op
    k, s, pad, d = op.kernel_size, op.stride, op.padding, op.dilation
    is_mean = op.keyword == "avgpool"
    end = pad if op.end_padding is None else op.end_padding
    extent = (k - 1) * d + 1
    sides = []
    for n in x.shape[2:]:
        number = (n + pad + end - extent) // s + 1
        if op.ceil:
            number = -(-(n + 2 * pad - extent) // s) + 1
            number -= (number - 1) * s >= n + pad
        sides.append(max((number - 1) * s + extent - n - pad, 0))
    padding = (pad, sides[1], pad, sides[0])
    rows, columns = (
        (n + pad + side - extent) // s + 1 for n, side in zip(x.shape[2:], sides, strict=True)
    )

    def windows(padded: Tensor) -> Tensor:
        parts = [
            padded[:, :, i * d :: s, j * d :: s][:, :, :rows, :columns]
            for i in range(k)
            for j in range(k)
        ]
        return torch.stack(parts)

    if not is_mean:
        return windows(f.pad(x, padding, value=-torch.inf)).amax(0)
    counted = torch.ones_like(x)
    if op.count_pad:
        counted = f.pad(counted, (pad,) * 4, value=1)
        inside = windows(f.pad(counted, (0, sides[1] - pad, 0, sides[0] - pad))).sum(0)
    else:
        inside = windows(f.pad(counted, padding)).sum(0)
    return windows(f.pad(x, padding)).sum(0) / inside


def _normalised(layer: Layer, x: Tensor) -> Tensor:
    op: Any = layer.op
    n, k, alpha, beta = op.n, op.k, op.alpha, op.beta
    squares = f.pad(x.square(), (0, 0, 0, 0, n // 2, n // 2))
    sums = torch.stack([squares[:, i : i + x.shape[1]] for i in range(n)]).sum(0)
    return x / (k + alpha * sums) ** beta
