"""Checkpoints of small nets with few channels, so that shapes coincide: in random layouts, under
random names, in random orders. What is imported is the net's, to the bit, or it is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from tests.fuzz.harness import answer
from tests.nets import net
from vggspec.compiler.importing.checkpoint import Checkpoint, Kind
from vggspec.compiler.importing.layouts import Layout
from vggspec.compiler.importing.matching import Hints, Matched, match
from vggspec.compiler.ir import Layer, Network, map_before

Arrays = dict[str, NDArray[np.float32]]

WORDS = ("stem", "first", "primary", "middle", "alpha", "beta_", "deep", "final", "last", "tail")
PREFIXES = (
    *("", "", "net.", "module.model.", "encoder.", "_orig_mod.", "vgg.body.", "a.b.c.d."),
    *("\x1b[31m.", "好\0/", "x" * 5000 + "."),
)


@dataclass
class Theirs:
    """A layer of the checkpoint: its name, and its tensors under our parts' names."""

    name: str
    tensors: Arrays


def one(random: Random, folder: Path) -> str:
    """A checkpoint to ``match``."""
    network = net(_spec(random)).network
    rng = np.random.default_rng(random.getrandbits(32))
    ours = {p.name: rng.standard_normal(p.stored).astype(np.float32) for p in network.params()}
    kind: Kind = random.choice(("pytorch", "safetensors", "npz"))
    # PyTorch has one layout, and so have TensorFlow's names.
    is_of_tensorflow = kind == "npz" and random.random() < 0.5
    layout: Layout = random.choice(("oihw", "ohwi", "hwio"))
    if kind == "pytorch" or is_of_tensorflow:
        layout = "oihw" if kind == "pytorch" else "hwio"
    layers = [layer for layer in network.layers if layer.params]
    names = _names(random, layers, is_numbered=kind == "safetensors" and random.random() < 0.8)
    theirs = [
        Theirs(name, _in_layout(random, network, layer, ours, layout))
        for layer, name in zip(layers, names.values, strict=True)
    ]
    damage = random.choice((_nothing,) * 5 + (_extra, _missing, _mixed, _no_bias, _nan, _factor))
    is_refused = damage(random, network, theirs)
    if names.are_numbered and random.random() < 0.2:
        random.shuffle(theirs)  # the names say more than the file
    tensors = _tensors(random, theirs, is_of_tensorflow=is_of_tensorflow)
    tensors |= _foreign(random)
    if kind == "safetensors" or random.random() < 0.1:
        tensors = dict(sorted(tensors.items()))
    told = Hints(layout=layout if random.random() < 0.3 else None)
    checkpoint = Checkpoint(
        path=str(folder / "w"),
        kind=kind,
        tensors=tensors,
        has_order=kind != "safetensors",
        key=None,
        others=(),
        metadata={},
    )
    found: list[Matched] = []
    code = answer(lambda: found.append(match(network, checkpoint, told)))
    if code == "ok":
        assert not is_refused, f"{damage.__name__}: {_shown(network, found[0], tensors)}"
        for name, array in ours.items():
            assert np.array_equal(found[0].arrays[name], array), (
                f"{name} {layout}: {_shown(network, found[0], tensors)}"
            )
        return f"ok {found[0].layout}"
    unclear = ("VGG540", "VGG541")
    assert damage is not _nothing or code in unclear, f"{code}: {_shapes(tensors)}"
    return code


def _spec(random: Random) -> str:
    channels = random.choice(("RGB", "RGB", "gray"))
    lines = ["net n", f"input {random.choice(('8x8', '8x12', '6x4', '3x3'))} {channels}(mean 0)"]
    for _ in range(random.randrange(4)):
        width = random.choice((2, 3, 3, 4, 6))
        options = random.choice(("", "", "", "(no-bias)"))
        line = f"conv{random.choice(('3', '3', '1', '1x3', '3x1', '5'))}-{width}{options}"
        lines.append(line + random.choice(("", "", " BN")))
        if len(lines) == 4 and random.random() < 0.5:
            lines.append("avgpool2/1")
    if random.random() < 0.3:
        lines.append("gap" if random.random() < 0.3 else "maxpool")
    lines += [f"FC-{random.choice((3, 4, 4, 6, 9))}" for _ in range(random.randrange(1, 4))]
    return "\n".join([*lines, "soft-max\n"])


@dataclass
class _Names:
    values: list[str]
    are_numbered: bool
    """Whether they say the order."""


def _names(random: Random, layers: list[Layer], *, is_numbered: bool) -> _Names:
    prefix = random.choice(PREFIXES)
    ways = ("torchvision", "counted", "ours", "blocks", *("words",) * (0 if is_numbered else 2))
    way = random.choice(ways)
    names = []
    seen: set[str] = set()
    for i, layer in enumerate(layers):
        is_fc = layer.op.keyword == "FC"
        if way == "torchvision":
            name = f"{'classifier' if is_fc else 'features'}.{i + 9}"
        elif way == "counted":
            name = f"{i + 1}"
        elif way == "ours":
            name = layer.name
        elif way == "blocks":
            name = f"fc{i}" if is_fc else f"block{i // 2}_{layer.op.keyword}{i}"
        else:
            name = random.choice(WORDS)
            while name in seen:
                name = f"{random.choice(WORDS)}{random.choice('xyz')}"
        while name in seen:
            name += "x"
        seen.add(name)
        names.append(prefix + name)
    return _Names(names, way != "words")


def _in_layout(
    random: Random, network: Network, layer: Layer, ours: Arrays, layout: Layout
) -> Arrays:
    """The tensors of a layer as a tool with this layout keeps them."""
    parts = {param.name.rpartition(".")[2]: ours[param.name] for param in layer.params}
    if layer.op.keyword == "BN":
        return parts
    weight = parts["weight"]
    is_matrix = weight.ndim == 2
    if is_matrix:
        before = map_before(network, layer.inputs[0])
        shape = (weight.shape[1], 1, 1) if before is None else before.shape
        weight = weight.reshape(-1, *shape)
    axes = {"oihw": (0, 1, 2, 3), "ohwi": (0, 2, 3, 1), "hwio": (2, 3, 1, 0)}[layout]
    weight = weight.transpose(axes)
    if is_matrix and random.random() < 0.7:
        out = len(parts["weight"])
        weight = weight.reshape(-1, out) if layout == "hwio" else weight.reshape(out, -1)
    return {**parts, "weight": np.ascontiguousarray(weight)}


def _tensors(random: Random, theirs: list[Theirs], *, is_of_tensorflow: bool) -> Arrays:
    tensors: Arrays = {}
    for layer in theirs:
        for part, tensor in layer.tensors.items():
            name = f"{layer.name}.{part}"
            if is_of_tensorflow:
                is_norm = "running_mean" in layer.tensors
                word = {
                    "weight": "gamma" if is_norm else "kernel",
                    "bias": "beta" if is_norm else "bias",
                    "running_mean": "moving_mean",
                    "running_var": "moving_variance",
                }[part]
                name = f"{layer.name.replace('.', '/')}/{word}:0"
            tensors[name] = tensor
    return tensors


def _foreign(random: Random) -> Arrays:
    """What else lies in such files and is no part of a net."""
    some = {
        "normalize.mean": np.zeros(3, np.float32),
        "anchors": np.full((4, 4), np.nan, np.float32),
        "epoch_of_net": np.ones((), np.float32),
        "loss.center": np.ones((3, 3), np.float32),
    }
    return {name: tensor for name, tensor in some.items() if random.random() < 0.1}


def _nothing(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    return False


def _extra(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    """A layer more, with the shapes of another one."""
    twin = random.choice(theirs)
    copied = {part: tensor + 1 for part, tensor in twin.tensors.items()}
    at = theirs.index(twin) + random.randrange(2)
    theirs.insert(at, Theirs(f"{twin.name}{random.choice(('0', '_twin', 'b'))}", copied))
    return True


def _missing(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    theirs.pop(random.randrange(len(theirs)))
    return True


def _mixed(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    """One kernel in another layout, where its shape and another one's show it."""

    def is_plain(layer: Theirs) -> bool:
        shape = layer.tensors["weight"].shape
        return len(shape) == 4 and len({side for side in shape if side > 1}) > 2

    kernels = [layer for layer in theirs if is_plain(layer)]
    if len(kernels) < 2:
        return False
    layer = random.choice(kernels)
    weight = layer.tensors["weight"]
    turned = weight.transpose(random.choice(((0, 2, 3, 1), (0, 3, 1, 2), (2, 3, 1, 0))))
    layer.tensors["weight"] = np.ascontiguousarray(turned)
    return turned.shape != weight.shape


def _no_bias(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    layer = random.choice(theirs)
    if "running_mean" in layer.tensors:  # whose offset may be left out, and is 0 then
        return False
    return layer.tensors.pop("bias", None) is not None


def _nan(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    tensor = random.choice(list(random.choice(theirs).tensors.values()))
    tensor.reshape(-1)[0] = np.nan
    return True


def _factor(random: Random, network: Network, theirs: list[Theirs]) -> bool:
    """What PReLU and group normalisation have: a number a channel, and no statistics."""
    at = random.randrange(len(theirs) + 1)
    name = re.sub(r"[^./]*$", "prelu", theirs[0].name)
    theirs.insert(at, Theirs(name, {"weight": np.ones(4, np.float32)}))
    return True


def _shown(network: Network, matched: Matched, tensors: Arrays) -> str:
    lines = [pair.in_words() for pair in matched.pairs]
    return f"{matched.layout} {lines} of {_shapes(tensors)}"


def _shapes(tensors: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}
