"""What each op computes, in plain numpy, for one image: slow, readable, independent of the ops."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    groups: int,
) -> Array:
    """``x`` is (C, H, W), ``weight`` (out, C / groups, rows, columns)."""
    out_channels, in_group, rows, columns = weight.shape
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    height = (x.shape[1] - dilation * (rows - 1) - 1) // stride + 1
    width = (x.shape[2] - dilation * (columns - 1) - 1) // stride + 1
    y = np.zeros((out_channels, height, width))
    for o in range(out_channels):
        group = o // (out_channels // groups)
        part = x[group * in_group : (group + 1) * in_group]
        for i in range(height):
            for j in range(width):
                top, left = i * stride, j * stride
                window = part[
                    :,
                    top : top + dilation * (rows - 1) + 1 : dilation,
                    left : left + dilation * (columns - 1) + 1 : dilation,
                ]
                y[o, i, j] = (window * weight[o]).sum()
    return y if bias is None else y + bias[:, None, None]


def pool(
    x: Array,
    *,
    window: int,
    stride: int,
    padding: int,
    ceil: bool,
    take: str,
    dilation: int = 1,
    end_padding: int | None = None,
    count_pad: bool = False,
) -> Array:
    """Windows laid over the padded image; what lies outside of the image does not count, unless the
    padding counts as zeros.
    """
    _, height, width = x.shape
    end = padding if end_padding is None else end_padding
    offsets = range(0, window * dilation, dilation)

    def starts(n: int) -> list[int]:
        last = n + padding + end - offsets[-1] - 1
        found = list(range(0, last + 1, stride))
        if ceil and found and found[-1] < last:
            found.append(found[-1] + stride)
        if ceil and not found:
            found = [0]
        return [s - padding for s in found if s - padding < n]

    rows, columns = starts(height), starts(width)
    y = np.zeros((x.shape[0], len(rows), len(columns)))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            seen_rows = [top + k for k in offsets if 0 <= top + k < height]
            seen_columns = [left + k for k in offsets if 0 <= left + k < width]
            part = x[:, seen_rows][:, :, seen_columns]
            y[:, i, j] = part.max((1, 2)) if take == "max" else part.mean((1, 2))
            if count_pad:
                counted = [
                    sum(-padding <= start + k < n + padding for k in offsets)
                    for start, n in ((top, height), (left, width))
                ]
                y[:, i, j] *= part[0].size / (counted[0] * counted[1])
    return y


def upconv(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: int,
    padding: tuple[int, int],
    groups: int,
) -> Array:
    """Each position of ``x`` (C, H, W) adds its windows, ``weight`` (C, out / groups, rows,
    columns).
    """
    channels, out_group, rows, columns = weight.shape
    _, height, width = x.shape
    y = np.zeros((out_group * groups, (height - 1) * stride + rows, (width - 1) * stride + columns))
    for c in range(channels):
        first = c // (channels // groups) * out_group
        for i in range(height):
            for j in range(width):
                top, left = i * stride, j * stride
                y[first : first + out_group, top : top + rows, left : left + columns] += (
                    x[c, i, j] * weight[c]
                )
    top, left = padding
    y = y[:, top : y.shape[1] - top, left : y.shape[2] - left]
    return y if bias is None else y + bias[:, None, None]


def resized(x: Array, height: int, width: int, *, nearest: bool) -> Array:
    """Each position from where it lies in ``x`` (C, H, W), or interpolated, the edges repeated."""
    for axis, number in ((1, height), (2, width)):
        before = x.shape[axis]
        if nearest:
            x = np.take(x, [i * before // number for i in range(number)], axis)
            continue
        places = (np.arange(number) + 0.5) * before / number - 0.5
        places = np.clip(places, 0, before - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, before - 1)
        part = (places - low).reshape([-1 if i == axis else 1 for i in range(3)])
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def lrn(x: Array, *, n: int, k: float, alpha: float, beta: float) -> Array:
    """Krizhevsky et al. 2012, section 3.3."""
    y = np.zeros_like(x)
    for c in range(x.shape[0]):
        low, high = max(0, c - n // 2), min(x.shape[0] - 1, c + n // 2)
        total = (x[low : high + 1] ** 2).sum(0)
        y[c] = x[c] / (k + alpha * total) ** beta
    return y


def batch_norm(
    x: Array, weight: Array, bias: Array, mean: Array, var: Array, *, eps: float
) -> Array:
    """With fixed statistics."""
    shape = (-1,) + (1,) * (x.ndim - 1)
    scale = weight / np.sqrt(var + eps)
    return (x - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape)


def softmax(x: Array) -> Array:
    """Over the first axis."""
    e = np.exp(x - x.max(0))
    return e / e.sum(0)
