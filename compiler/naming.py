"""Names of layers: from their places, as in the authors' released models, or as written.

conv1_1 … conv5_3, pool1 …, and FC layers that count on after the last block: fc6, fc7, fc8 in a
net of five blocks.
"""

import keyword
import re
from collections.abc import Iterable

from vggspec.base.catalogue.layers import UnusableName
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Activation, Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.up import Up
from vggspec.compiler.ops.upconv import UpConv

MAX_NAME = 64

_USABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NUMBERED = re.compile(r"(conv|fc)(?=\d)", re.IGNORECASE)

_OF_MODULE = (
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda "
    "double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter "
    "get_submodule half ipu load_state_dict modules mtia named_buffers named_children "
    "named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook "
    "register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ "
    "set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu "
    "zero_grad"
)
_OF_VGGSPEC = "none image posteriors scores features score_map average vector self torch nn"

#: Names that ``torch.nn.Module``, generated Python code and the graph need for themselves.
RESERVED = frozenset([*_OF_MODULE.split(), *_OF_VGGSPEC.split(), *keyword.kwlist, "match", "case"])


def as_written(name: str, known: Iterable[str]) -> str | None:
    """The known name that is meant: the same one, else one that differs in case alone."""
    folded = [one for one in known if one.casefold() == name.casefold()]
    return name if name in folded else next(iter(folded), None)


def unusable(name: str) -> UnusableName | None:
    """The mistake in a name that a spec gives to a layer, or None."""
    if not _USABLE.fullmatch(name):
        because = "it must begin with a letter and hold letters, digits and `_` alone"
    elif name in RESERVED:
        because = "this name is reserved"
    elif len(name) > MAX_NAME:
        because = f"it has {len(name)} characters, more than {MAX_NAME}"
    else:
        return None
    suggestion = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[: MAX_NAME - 8]
    if not suggestion[:1].isalpha():
        suggestion = f"layer_{suggestion}"
    elif suggestion in RESERVED:
        suggestion = f"{suggestion}_layer"
    return UnusableName(name=name, because=because, suggestion=suggestion)


def implied_name(prefix: str, owner: str, taken: set[str]) -> str:
    """A name for a layer implied by another: ``relu1_1`` of conv1_1, ``relu_head`` of head."""
    name = f"{prefix}{place_of(owner)}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def place_of(name: str) -> str:
    """The end of a conv's or FC's name that others share: ``1_1`` of conv1_1, ``_head`` of head."""
    return _NUMBERED.sub("", name, count=1) if _NUMBERED.match(name) else f"_{name}"


class Namer:
    """Names at the top level from places: block by block, FC layers counting on after the last
    block. Brackets and blocks count neither layers nor poolings here.
    """

    def __init__(self) -> None:
        self.block = 1
        self.place = 0
        self.fc: int | None = None
        self.suffix = ""
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def step(self, op: Op, name: str) -> None:
        """Count a layer that has its name."""
        self._place(op)
        if op.is_weight_layer:
            self.suffix = place_of(name)

    def automatic(self, op: Op) -> str:
        """Count a layer and name it; of several with one place the later ones get a number."""
        name = self._place(op)
        if op.is_weight_layer:
            self.suffix = place_of(name)
        return _unique(name, self.taken, self.numbers)

    def group_name(self, kind: str) -> str:
        """The next name of a bracket, or of the use of a block called ``kind``: ``block1``."""
        return _counted(kind, self.taken, self.numbers)

    def _place(self, op: Op) -> str:
        match op:
            case Conv() | DepthwiseConv():
                self.place += 1
                return f"conv{self.block}_{self.place}"
            case MaxPool():
                name = f"pool{self.block}"
                self.block += 1
                self.place = 0
                return name
            case Linear():
                if self.fc is None:
                    self.fc = self.block if self.place else self.block - 1
                self.fc += 1
                return f"fc{self.fc}"
            case BatchNorm():
                return f"bn{self.suffix}"
            case Relu() | Relu6():
                return f"relu{self.suffix}"
            case Silu():
                return f"silu{self.suffix}"
            case Lrn():
                return f"norm{self.suffix}"
            case Dropout():
                return f"drop{self.suffix}"
            case Softmax():
                return "prob"
            case UpConv() | Up() | Resize() | Crop():
                count = self._counts[op.keyword] = self._counts.get(op.keyword, 0) + 1
                return f"{op.keyword}{count}"
            case _:
                return op.keyword


class LocalNamer:
    """Names in a bracket or block: ``conv1``, ``conv2``, ``pool1``, each kind counted by itself.

    A batch normalisation or an activation after a weight layer has that one's name and a suffix.
    """

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._last: str | None = None

    def step(self, op: Op, name: str) -> None:
        """Count a layer that has its name."""
        kind = _KINDS.get(op.keyword, op.keyword)
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        self.taken.add(name)
        if op.is_weight_layer:
            self._last = name

    def automatic(self, op: Op) -> str:
        """Count a layer and name it."""
        kind = _KINDS.get(op.keyword, op.keyword)
        if isinstance(op, BatchNorm | Activation) and self._last is not None:
            return self.unique(f"{self._last}_{kind}")
        name = _counted(kind, self.taken, self._numbers)
        if op.is_weight_layer:
            self._last = name
        return name

    def group_name(self, kind: str) -> str:
        """The next name of a bracket, or of the use of a block called ``kind``."""
        return _counted(kind, self.taken, self._numbers)

    def begin(self) -> None:
        """Begin a branch: what follows belongs to no layer of another one."""
        self._last = None

    def unique(self, name: str) -> str:
        """The name, with a number where it is taken."""
        found = _unique(name, self.taken, self._numbers)
        self.taken.add(found)
        return found


#: How names in brackets begin, where that is not the op's keyword.
_KINDS = {
    "dwconv": "conv",
    "maxpool": "pool",
    "avgpool": "pool",
    "FC": "fc",
    "BN": "bn",
    "LRN": "norm",
    "dropout": "drop",
    "soft-max": "prob",
    "ReLU6": "relu",
    "SiLU": "silu",
}


def _counted(kind: str, taken: set[str], numbers: dict[str, int]) -> str:
    """The kind and how many there are of it by now."""
    while True:
        numbers[kind] = numbers.get(kind, 0) + 1
        name = f"{kind}{numbers[kind]}"
        if name not in taken:
            taken.add(name)
            return name


def _unique(name: str, taken: set[str], numbers: dict[str, int]) -> str:
    unique = name
    while unique in taken:
        numbers[name] = numbers.get(name, 1) + 1
        unique = f"{name}_{numbers[name]}"
    return unique
