"""The tensors of a checkpoint by layer, and the order of the layers by their names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from vggspec.base.fields import short
from vggspec.compiler.weights import Array

Role = Literal["weight", "bias", "running_mean", "running_var"]

#: What tools call the parts of a layer, by what we call them.
_ROLES: dict[str, Role] = {
    "weight": "weight", "weights": "weight", "kernel": "weight", "w": "weight",
    "gamma": "weight", "scale": "weight",
    "bias": "bias", "biases": "bias", "b": "bias", "beta": "bias",
    "running_mean": "running_mean", "moving_mean": "running_mean", "mean": "running_mean",
    "running_var": "running_var", "moving_variance": "running_var", "variance": "running_var",
    "var": "running_var",
}  # fmt: skip

#: ``features.0.weight``, ``conv1_1_W``, ``block1_conv1/kernel:0``, ``block1_conv1_W_1:0``.
_NAME = re.compile(
    rf"(?:(?P<owner>.*?)(?P<mark>[./_]))?(?P<role>{'|'.join(_ROLES)})"
    r"(?:_\d+(?=:))?(?P<output>:\d+)?",
    re.IGNORECASE | re.DOTALL,
)
_OF_TENSORFLOW = {"kernel", "weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"}

#: Words for parts of a net, from its first layer to its last.
_STAGES = tuple(
    re.compile(words, re.IGNORECASE)
    for words in (
        r"features|convs?|(conv|block|stage)\d\w*",
        r"pre_logits",
        r"classifier|fcs?|fc\d+|dense(_\d+)?|linear(_\d+)?",
        r"head|predictions?|logits|output|out",
    )
)


@dataclass(slots=True)
class Module:
    """The tensors of one layer of a checkpoint."""

    name: str
    place: int
    """Of its first tensor in the file."""

    tensors: dict[Role, Array] = field(default_factory=dict)
    names: dict[Role, str] = field(default_factory=dict)
    """The tensors' names in the file."""

    is_of_tensorflow: bool = False
    """Whether its tensors are called as TensorFlow calls them."""

    @property
    def title(self) -> str:
        """Its name at a length that can be shown."""
        return short(self.name)

    @property
    def is_norm(self) -> bool:
        """Whether it has the statistics of batch normalisation."""
        return "running_mean" in self.tensors and "running_var" in self.tensors

    @property
    def is_weighted(self) -> bool:
        """Whether it is a convolution or a fully connected layer."""
        return not self.is_norm and "weight" in self.tensors and self.weight.ndim in (2, 4)

    @property
    def is_learned(self) -> bool:
        """Whether it contains learned parameters, not only statistics."""
        return "weight" in self.tensors or "bias" in self.tensors or self.is_norm

    @property
    def weight(self) -> Array:
        """The kernel or the matrix, or the factors of batch normalisation."""
        return self.tensors["weight"]

    def is_within(self, name: str) -> bool:
        """Whether it is the layer or tensor of that name, or one of the group of that name."""
        return name in (self.name, *self.names.values()) or self.name.startswith(
            (f"{name}.", f"{name}/")
        )

    @property
    def path(self) -> list[str]:
        """The parts of its name."""
        return re.split(r"[./]", self.name)


def modules_of(tensors: Mapping[str, Array]) -> list[Module]:
    """The layers of a checkpoint in the order of the file; other tensors are no part of one."""
    modules: dict[tuple[str, str], Module] = {}
    for place, (name, tensor) in enumerate(tensors.items()):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        owner, mark = match["owner"] or "", match["mark"] or ""
        module = modules.setdefault((owner, mark), Module(owner or name, place))
        word = match["role"].lower()
        role = _ROLES[word]
        if role in module.tensors:  # two names for one part: another layer, and unlike any of ours
            module = modules.setdefault((name, ""), Module(name, place))
        module.tensors[role] = tensor
        module.names[role] = name
        if word in _OF_TENSORFLOW or match["output"]:
            module.is_of_tensorflow = True
    return list(modules.values())


def owner_of(name: str) -> str | None:
    """The layer of a tensor that is a known part of one, by its name."""
    match = _NAME.fullmatch(name)
    return match["owner"] if match else None


def is_part(name: str) -> bool:
    """Whether a tensor is a known part of a layer, by its name."""
    return _NAME.fullmatch(name) is not None


def relation(a: str, b: str) -> int:
    """-1 where names say that ``a`` is before ``b``, 1 where it is after it, 0 where they do not.

    Words for parts of a net have an order, and so have numbers after the same beginning. Other
    words have none: ``primary`` and ``final`` are in no order that a program could know.
    """
    stages = _stage(a), _stage(b)
    if None not in stages and stages[0] != stages[1]:
        return -1 if stages[0] < stages[1] else 1  # type: ignore[operator]
    ours, theirs = _pieces(a), _pieces(b)
    for i, (x, y) in enumerate(zip(ours, theirs, strict=False)):
        if x == y:
            continue
        if _is_number(x) and _is_number(y):
            return -1 if _number(x) < _number(y) else 1
        # Keras: conv2d, conv2d_1, conv2d_2
        if i == len(ours) - 1 and x + "_" == y and i == len(theirs) - 2:
            return -1
        if i == len(theirs) - 1 and y + "_" == x and i == len(ours) - 2:
            return 1
        return 0
    if len(ours) == len(theirs):
        return 0
    # fc, fc2, fc3
    longer = max(ours, theirs, key=len)
    if _is_number(longer[min(len(ours), len(theirs))]):
        return -1 if len(ours) < len(theirs) else 1
    return 0


def is_of_classifier(name: str) -> bool:
    """Whether a layer is after the features, by its name."""
    return bool(_stage(name))


def _pieces(name: str) -> list[str]:
    """Numbers, and what is between them."""
    return re.findall(r"[0-9]+|[^0-9]+", name)


def _is_number(piece: str) -> bool:
    return piece[0] in "0123456789"


def _number(digits: str) -> tuple[int, str]:
    """What orders as the number does, however long it is."""
    bare = digits.lstrip("0")
    return len(bare), bare


def _stage(name: str) -> int | None:
    for part in re.split(r"[./]", name):
        for stage, words in enumerate(_STAGES):
            if words.fullmatch(part):
                return stage
    return None


class UnclearError(Exception):
    """The order of modules is ambiguous; the text says why."""


def in_order(modules: Sequence[Module], *, by_file: bool) -> list[Module]:
    """Modules by the order of the file, where it counts, else by their names.

    Raises:
        UnclearError: names contradict the file or each other, or say nothing and the file has no
            order.
    """
    found = _by_place(modules) if by_file else _by_names(modules)
    for earlier, later in combinations(found, 2):
        said = relation(earlier.name, later.name)
        if said > 0:
            first, second = later.title, earlier.title
            where = "in the file" if by_file else "by the other names"
            raise UnclearError(f"`{first}` is before `{second}` by its name and after it {where}")
        if said == 0 and not by_file:
            names = f"`{earlier.title}` and `{later.title}`"
            raise UnclearError(f"the file has no order, and the names {names} say none")
    return found


def best_order(modules: Sequence[Module], *, by_file: bool) -> list[Module]:
    """The likeliest order, for messages."""
    return _by_place(modules) if by_file else _by_names(modules)


def _by_place(modules: Iterable[Module]) -> list[Module]:
    return sorted(modules, key=lambda module: module.place)


def _by_names(modules: Iterable[Module]) -> list[Module]:
    def key(module: Module) -> tuple[int, list[tuple[int, str]]]:
        stage = _stage(module.name)
        pieces = [_number(p) if _is_number(p) else (-1, p) for p in _pieces(module.name)]
        return len(_STAGES) if stage is None else stage, pieces

    return sorted(modules, key=key)
