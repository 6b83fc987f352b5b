"""Ops as one would write them in a spec: the inverse of ``Op.read``, defaults left out."""

from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op


def written(op: Op) -> str:
    """``conv5-256(pad 2, groups 2)``; the keyword alone for an op that is only implied."""
    match op:
        case Conv():
            word = f"conv{_size(op.kernel_size)}-{op.out_channels}"
            word += "" if op.stride == 1 else f"/{op.stride}"
            same = tuple(op.dilation * (k - 1) // 2 for k in op.kernel_size)
            is_same = op.padding == same and all(k % 2 for k in op.kernel_size)
            options = [
                "" if is_same else f"pad {_size(op.padding)}",
                _unless(1, "dilation", op.dilation),
                _unless(1, "groups", op.groups),
                "linear" if op.linear else "",
                "" if op.bias else "no-bias",
            ]
        case Linear():
            word = f"FC-{op.out_channels}"
            options = ["linear" if op.linear else "", "" if op.bias else "no-bias"]
        case MaxPool():
            usual_window = op.kernel_size == op.stride == 2
            word = op.keyword if usual_window else f"{op.keyword}{op.kernel_size}/{op.stride}"
            options = [_unless(0, "pad", op.padding), "ceil" if op.ceil else ""]
        case Lrn():
            word, alexnet = op.keyword, Lrn()
            options = [
                _unless(alexnet.n, "n", op.n),
                _unless(alexnet.k, "k", op.k),
                _unless(alexnet.alpha, "alpha", op.alpha),
                _unless(alexnet.beta, "beta", op.beta),
            ]
        case BatchNorm():
            word, standard = op.keyword, BatchNorm()
            options = [
                _unless(standard.eps, "eps", op.eps),
                _unless(standard.momentum, "momentum", op.momentum),
            ]
        case Dropout():
            word, options = op.keyword, [f"{op.rate!r}"]
        case Boxes():
            word, options = op.keyword, ["shared" if op.shared else "per-class"]
        case _:
            return op.keyword
    said = ", ".join(option for option in options if option)
    return f"{word}({said})" if said else word


def _size(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def _unless(usual: float, word: str, value: float) -> str:
    return "" if value == usual else f"{word} {value!r}"
