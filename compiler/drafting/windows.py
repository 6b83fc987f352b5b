"""What nodes say of their windows: strides, padding, rounding; and how a node is refused.

Source: ONNX's operators Conv, MaxPool and AveragePool.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from vggspec.base.catalogue.onnx_models import Inexpressible
from vggspec.compiler.importing.onnx_files import attribute, title
from vggspec.compiler.importing.stored import RefusedError

if TYPE_CHECKING:
    from onnx import NodeProto

MOST = 8
"""Numbers of an attribute that are read: those of rows and columns are 4 at most."""


def integers_of(node: "NodeProto", name: str) -> tuple[int, ...] | None:
    """An attribute that is several whole numbers, or None."""
    found = attribute(node, name)
    return None if found is None else tuple(found.ints[:MOST])


def pads_of(
    node: "NodeProto",
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    size: Sequence[int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding before rows and columns, and after them."""
    mode = attribute(node, "auto_pad")
    kind = "NOTSET" if mode is None else mode.s.decode("ascii", "replace")
    if kind == "VALID":
        return (0, 0), (0, 0)
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            less, more = total // 2, total - total // 2
            begins.append(less if kind == "SAME_UPPER" else more)
            ends.append(more if kind == "SAME_UPPER" else less)
        return (begins[0], begins[1]), (ends[0], ends[1])
    found = integers_of(node, "pads") or (0, 0, 0, 0)
    if len(found) != 4 or kind != "NOTSET" or min(found) < 0:
        refuse(node, "its padding is not that of rows and columns")
    return (found[0], found[1]), (found[2], found[3])


def same(node: "NodeProto", name: str, why: str) -> int:
    """A number that is the same for rows and columns, 1 by default."""
    found = integers_of(node, name) or (1, 1)
    if len(found) != 2 or found[0] != found[1] or found[0] < 1:
        refuse(node, why)
    return found[0]


def pooled(n: int, k: int, stride: int, begin: int, end: int, *, rounds_up: bool) -> int:
    """Rows or columns after a pooling, as ONNX defines them."""
    room = n + begin + end - k
    if room < 0:
        return 0
    found = (-(-room // stride) if rounds_up else room // stride) + 1
    # A last window that begins in the padding is dropped.
    return found - 1 if rounds_up and (found - 1) * stride >= n + begin else found


def refuse(
    node: "NodeProto",
    why: str,
    way: str = "write the net with a layer of the language in its place, or use the model as it is",
) -> NoReturn:
    """Say why a node cannot be expressed, and what to do about it.

    Raises:
        RefusedError: always.
    """
    raise inexpressible(title(node), why, way)


def inexpressible(node: str, why: str, way: str) -> RefusedError:
    """The error that a node, in words, cannot be expressed."""
    return RefusedError(Inexpressible(node=node, why=why, way=way))
