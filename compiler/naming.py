"""Names of layers: from their places, as in the authors' released models, or as written.

conv1_1 … conv5_3, pool1 …, and FC layers that count on after the last block: fc6, fc7, fc8 in a
net of five blocks.
"""

import keyword
import re

from vggspec.base.catalogue.layers import UnusableName
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.softmax import Softmax

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
_OF_VGGSPEC = "image posteriors scores features score_map average vector self torch nn"

#: Names that ``torch.nn.Module``, generated Python code and the graph need for themselves.
RESERVED = frozenset([*_OF_MODULE.split(), *_OF_VGGSPEC.split(), *keyword.kwlist, "match", "case"])


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
    """Names from places: block by block, FC layers counting on after the last block."""

    def __init__(self) -> None:
        self.block = 1
        self.place = 0
        self.fc: int | None = None
        self.suffix = ""
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}

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
        unique = name
        while unique in self.taken:
            number = self.numbers.get(name, 1) + 1
            self.numbers[name] = number
            unique = f"{name}_{number}"
        return unique

    def _place(self, op: Op) -> str:
        match op:
            case Conv():
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
            case Lrn():
                return f"norm{self.suffix}"
            case Dropout():
                return f"drop{self.suffix}"
            case Softmax():
                return "prob"
            case _:
                return op.keyword
