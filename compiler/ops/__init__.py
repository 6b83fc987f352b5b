"""The ops: one file each, listed here; adding one is that file and its line below."""

from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.up import Up
from vggspec.compiler.ops.upconv import UpConv

OPS: tuple[type[Op], ...] = (
    Conv,
    DepthwiseConv,
    UpConv,
    Up,
    Resize,
    Crop,
    MaxPool,
    AvgPool,
    Lrn,
    BatchNorm,
    Dropout,
    Linear,
    GlobalAvgPool,
    Softmax,
    Boxes,
    Relu,
    Relu6,
    Silu,
    Add,
    Concat,
    PadShortcut,
    Flatten,
)


def spell(word: str) -> str:
    """A layer's word in its canonical spelling; a word that is no layer, as it is."""
    for op in OPS:
        if op.syntax is not None and op.syntax.match(word):
            return op.syntax.spell(word)
    return word
