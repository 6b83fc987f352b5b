"""What collections of nets call the layers of theirs: by the form of a net, not by our names.

A collection has nets of a few forms; a net of another form has no names there. How many channels
its layers have does not matter, nor how many classes.

Sources: ``vgg.py``, ``alexnet.py`` and ``resnet.py`` of torchvision and of timm, ``vgg16.py``,
``vgg19.py`` and ``resnet.py`` of ``keras.applications``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import Literal, get_args

from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.softmax import Softmax

Collection = Literal["torchvision", "timm", "keras"]
COLLECTIONS: tuple[Collection, ...] = get_args(Collection)

#: Their nets, for messages.
IN_WORDS: dict[Collection, str] = {
    "torchvision": "VGG-11, 13, 16 and 19, each with or without BN, AlexNet of one tower, and"
    " ResNet-18 to 152",
    "timm": "VGG-11, 13, 16 and 19, each with or without BN, and ResNet-18 to 152",
    "keras": "VGG-16 and 19, and ResNet-50, 101 and 152 with biases and the stride in the first"
    " 1 × 1 conv",
}

#: Convs of each stage of a VGG.
_VGGS: dict[tuple[int, ...], str] = {
    (1, 1, 2, 2, 2): "VGG-11",
    (2, 2, 2, 2, 2): "VGG-13",
    (2, 2, 3, 3, 3): "VGG-16",
    (2, 2, 4, 4, 4): "VGG-19",
}
_OF_KERAS = ("VGG-16", "VGG-19")

#: Kernel, stride and padding of AlexNet's convs, and the convs after which it pools.
_ALEXNET = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))
_ALEXNET_POOLS = (1, 2, 5)

#: Blocks of each stage of a ResNet, of two convs and of three.
_BASIC = ((2, 2, 2, 2), (3, 4, 6, 3))
_BOTTLENECK = ((3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3))

#: What batch normalisation adds to its variance.
_EPSILONS: dict[Collection, float] = {"torchvision": 1e-5, "timm": 1e-5, "keras": 1.001e-5}


#: What layers of a ResNet are called in messages.
_WORDS: dict[type[Op], str] = {
    Conv: "a conv",
    BatchNorm: "BN",
    Relu: "a ReLU",
    MaxPool: "a max pooling",
    GlobalAvgPool: "gap",
    Flatten: "an FC layer",
    Linear: "an FC layer",
}


class NoNamesError(Exception):
    """The net has not the form of one of the collection; the message says where it differs."""


def names_in(network: Network, collection: Collection) -> dict[str, str]:
    """The name in a collection of each layer that has weights, in the order of the collection.

    Raises:
        NoNamesError: the net has another form than those of the collection.
    """
    is_residual = any(layer.op.is_join for layer in network.layers)
    return _of_resnet(network, collection) if is_residual else _of_chain(network, collection)


def check_epsilons(network: Network, collection: Collection) -> None:
    """Check that batch normalisation is computed as in the collection.

    Raises:
        NoNamesError: it is not.
    """
    for layer in network.layers:
        if isinstance(layer.op, BatchNorm) and not isclose(layer.op.eps, _EPSILONS[collection]):
            eps = f"{_EPSILONS[collection]:g}"
            raise NoNamesError(f"`{layer.name}` has eps {layer.op.eps:g}, theirs {eps}")


@dataclass(frozen=True, slots=True)
class _Step:
    """A conv and the batch normalisation after it."""

    conv: Layer
    norm: Layer


def _of_chain(network: Network, collection: Collection) -> dict[str, str]:
    """A VGG or, of torchvision, AlexNet."""
    features, classifier = _halves(network)
    convs = [layer for layer in features if isinstance(layer.op, Conv)]
    if not convs or len(classifier) != 3:
        raise NoNamesError("it has no convs" if not convs else "its nets end in three FC layers")
    is_alexnet = collection == "torchvision" and _window(convs[0]) == _ALEXNET[0]
    if is_alexnet:
        _check_alexnet(features)
        side = 6
    else:
        vgg = _check_vgg(features)
        side = 7
        has_norms = any(isinstance(layer.op, BatchNorm) for layer in features)
        if collection == "keras" and (vgg not in _OF_KERAS or has_norms):
            raise NoNamesError(f"it has no {vgg}{' with BN' * has_norms}")
    shape = network.type_of(features[-1].name).size
    if collection != "keras" and shape != (side, side):
        raise NoNamesError(
            f"`{classifier[0].name}` takes a map of {shape[0]} × {shape[1]}, theirs of"
            f" {side} × {side}"
        )
    return dict(
        zip(
            [layer.name for layer in (*features, *classifier) if layer.params],
            _chain_names(features, collection, is_alexnet=is_alexnet),
            strict=True,
        )
    )


def _chain_names(
    features: list[Layer], collection: Collection, *, is_alexnet: bool
) -> Iterator[str]:
    if collection == "keras":
        block = conv = 1
        for layer in features:
            if isinstance(layer.op, Conv):
                yield f"block{block}_conv{conv}"
                conv += 1
            elif isinstance(layer.op, MaxPool):
                block, conv = block + 1, 1
        yield from ("fc1", "fc2", "predictions")
        return
    for place, layer in enumerate(features):
        if layer.params:
            yield f"features.{place}"
    if collection == "timm":
        yield from ("pre_logits.fc1", "pre_logits.fc2", "head.fc")
    else:
        yield from (f"classifier.{place}" for place in ((1, 4, 6) if is_alexnet else (0, 3, 6)))


def _halves(network: Network) -> tuple[list[Layer], list[Layer]]:
    """The layers up to the last map, and the FC layers: of a net in one line.

    Raises:
        NoNamesError: it has another layer.
    """
    features: list[Layer] = []
    classifier: list[Layer] = []
    before = IMAGE
    has_relu = True
    for layer in network.layers:
        if layer.inputs != (before,):
            raise NoNamesError(f"`{layer.name}` does not follow `{before}`")
        before, op = layer.name, layer.op
        if isinstance(op, Linear) and not layer.type.is_map:
            _check_relu(classifier[-1] if classifier else None, is_there=has_relu)
            classifier.append(layer)
            has_relu = False
        elif not classifier and isinstance(op, Conv | BatchNorm | Relu | MaxPool):
            if isinstance(op, Conv | MaxPool):
                _check_relu(features[-1] if features else None, is_there=has_relu)
            has_relu = isinstance(op, Relu | MaxPool)
            features.append(layer)
        elif isinstance(op, Relu):
            has_relu = True
        elif not isinstance(op, Dropout | Flatten | Softmax):
            raise NoNamesError(f"`{layer.name}` is a layer that its nets do not have")
    for layer in (*features, *classifier):
        if isinstance(layer.op, Conv | Linear) and not layer.op.bias:
            raise NoNamesError(f"`{layer.name}` has no bias, theirs has one")
    return features, classifier


def _check_relu(layer: Layer | None, *, is_there: bool) -> None:
    if layer is not None and not is_there:
        raise NoNamesError(f"no ReLU follows `{layer.name}`")


def _check_vgg(features: list[Layer]) -> str:
    """Which VGG it is."""
    stages = [0]
    for layer in features:
        op = layer.op
        if isinstance(op, Conv):
            _check_window(layer, (3, 1, 1))
            stages[-1] += 1
        elif isinstance(op, MaxPool):
            _check_pool(layer, (2, 2, 0))
            stages.append(0)
    found = _VGGS.get(tuple(stages[:-1])) if stages[-1] == 0 else None
    if found is None:
        raise NoNamesError(f"its stages have {'-'.join(map(str, stages))} convs, as no VGG of it")
    norms = sum(isinstance(layer.op, BatchNorm) for layer in features)
    if norms not in (0, sum(stages)):
        raise NoNamesError("BN follows some convs and not all")
    return found


def _check_alexnet(features: list[Layer]) -> None:
    convs = [layer for layer in features if isinstance(layer.op, Conv)]
    if len(convs) != len(_ALEXNET) or any(isinstance(layer.op, BatchNorm) for layer in features):
        raise NoNamesError("its AlexNet has five convs without BN")
    for layer, window in zip(convs, _ALEXNET, strict=True):
        _check_window(layer, window)
    pooled, number = [], 0
    for layer in features:
        number += isinstance(layer.op, Conv)
        if isinstance(layer.op, MaxPool):
            _check_pool(layer, (3, 2, 0))
            pooled.append(number)
    if tuple(pooled) != _ALEXNET_POOLS:
        raise NoNamesError("its AlexNet pools after the convs 1, 2 and 5")


def _window(layer: Layer) -> tuple[int, int, int] | None:
    """Kernel, stride and padding; None where these differ between rows and columns, or it has
    groups or holes.
    """
    op = layer.op
    assert isinstance(op, Conv)
    (rows, columns), (above, left) = op.kernel_size, op.padding
    is_plain = rows == columns and above == left and op.dilation == 1
    return (rows, op.stride, above) if is_plain and op.groups == 1 else None


def _check_window(layer: Layer, wanted: tuple[int, int, int], why: str = "") -> None:
    if _window(layer) != wanted:
        kernel, stride, padding = wanted
        theirs = f"{kernel} × {kernel}, stride {stride}, padding {padding}, without groups{why}"
        raise NoNamesError(f"`{layer.name}` is another conv than theirs: {theirs}")


def _check_pool(layer: Layer, wanted: tuple[int, int, int]) -> None:
    op = layer.op
    assert isinstance(op, MaxPool)
    kernel, stride, _ = wanted
    is_alike = (op.kernel_size, op.stride, op.padding) == wanted and op.dilation == 1
    if type(op) is not MaxPool or not is_alike or op.ceil:
        raise NoNamesError(f"`{layer.name}` is another pooling than theirs: {kernel}/{stride}")


@dataclass(frozen=True, slots=True)
class _Block:
    steps: list[_Step]
    shortcut: _Step | None


def _of_resnet(network: Network, collection: Collection) -> dict[str, str]:
    first, blocks, last = _parts(network)
    is_bottleneck = len(blocks[0].steps) == 3
    stages: list[list[_Block]] = [[]]
    for block in blocks:
        if block.shortcut is not None and stages[-1]:
            stages.append([])
        stages[-1].append(block)
    counts = tuple(map(len, stages))
    if counts not in (_BOTTLENECK if is_bottleneck else _BASIC):
        raise NoNamesError(f"its stages have {'-'.join(map(str, counts))} blocks, as no ResNet")
    if collection == "keras" and not is_bottleneck:
        raise NoNamesError("its ResNets have blocks of three convs")
    is_keras = collection == "keras"
    strided = 0 if is_keras or not is_bottleneck else 1
    kernels = (1, 3, 1) if is_bottleneck else (3, 3)
    _check_step(first, (7, 2, 3), has_bias=is_keras)
    conv, norm = ("conv1_conv", "conv1_bn") if is_keras else ("conv1", "bn1")
    found = {first.conv.name: conv, first.norm.name: norm}
    for s, stage in enumerate(stages, 1):
        for b, block in enumerate(stage):
            stride = 2 if s > 1 and b == 0 else 1
            for i, step in enumerate(block.steps):
                window = (kernels[i], stride if i == strided else 1, kernels[i] // 2)
                _check_step(step, window, has_bias=is_keras)
            if block.shortcut is not None:
                _check_step(block.shortcut, (1, stride, 0), has_bias=is_keras)
            found |= _block_of_keras(block, s, b) if is_keras else _block(block, s, b)
    found[last.name] = "predictions" if is_keras else "fc"
    return found


def _check_step(step: _Step, window: tuple[int, int, int], *, has_bias: bool) -> None:
    _check_window(step.conv, window)
    assert isinstance(step.conv.op, Conv)
    if step.conv.op.bias != has_bias:
        has = "a bias, theirs has none" if step.conv.op.bias else "no bias, theirs has one"
        raise NoNamesError(f"`{step.conv.name}` has {has}")


def _block(block: _Block, stage: int, number: int) -> dict[str, str]:
    begin = f"layer{stage}.{number}."
    found: dict[str, str] = {}
    for i, step in enumerate(block.steps, 1):
        found |= {step.conv.name: f"{begin}conv{i}", step.norm.name: f"{begin}bn{i}"}
    if (short := block.shortcut) is not None:
        found |= {short.conv.name: f"{begin}downsample.0", short.norm.name: f"{begin}downsample.1"}
    return found


def _block_of_keras(block: _Block, stage: int, number: int) -> dict[str, str]:
    """Keras lists layers by their distance from the output: a shortcut beside the last conv."""
    begin = f"conv{stage + 1}_block{number + 1}_"
    numbered = list(enumerate(block.steps, 1))
    last = [*([(0, block.shortcut)] if block.shortcut else []), numbered.pop()]
    found: dict[str, str] = {}
    for i, step in numbered:
        found |= {step.conv.name: f"{begin}{i}_conv", step.norm.name: f"{begin}{i}_bn"}
    found |= {step.conv.name: f"{begin}{i}_conv" for i, step in last}
    return found | {step.norm.name: f"{begin}{i}_bn" for i, step in last}


def _parts(network: Network) -> tuple[_Step, list[_Block], Layer]:
    """The first conv, the blocks, and the last FC of a residual net.

    Raises:
        NoNamesError: it has another form.
    """
    first, end = _step(network, IMAGE)
    pool = _after(network, _after(network, end, Relu).name, MaxPool)
    _check_pool(pool, (3, 2, 1))
    blocks, begin = [], pool.name
    while len(readers := network.users(begin)) == 2:
        add = next((layer for layer in network.layers if _joins(network, layer, begin)), None)
        if add is None:
            raise NoNamesError(f"the branches after `{begin}` are not those of a ResNet")
        branches = [_branch(network, begin, end) for end in add.inputs]
        main = next((steps for steps in branches if len(steps) > 1), None)
        other = next((steps for steps in branches if steps is not main), None)
        if main is None or other is None or len(main) not in (2, 3) or len(other) > 1:
            raise NoNamesError(f"`{readers[0].name}` begins a block that no ResNet has")
        blocks.append(_Block(main, other[0] if other else None))
        begin = _after(network, add.name, Relu).name
    if not blocks or len({len(block.steps) for block in blocks}) != 1:
        raise NoNamesError("it has no blocks, or blocks of two kinds")
    gap = _after(network, begin, GlobalAvgPool)
    last = _after(network, _after(network, gap.name, Flatten).name, Linear)
    assert isinstance(last.op, Linear)
    if not last.op.bias or any(not isinstance(u.op, Softmax) for u in network.users(last.name)):
        raise NoNamesError(f"`{last.name}` is not its last layer, with a bias")
    listed = {step.conv.name for block in blocks for step in block.steps}
    listed |= {block.shortcut.conv.name for block in blocks if block.shortcut}
    for layer in network.layers:
        if (
            layer.params
            and isinstance(layer.op, Conv)
            and layer.name not in listed | {first.conv.name}
        ):
            raise NoNamesError(f"`{layer.name}` is in no block")
    return first, blocks, last


def _step(network: Network, before: str) -> tuple[_Step, str]:
    """The conv after a layer with its batch normalisation, and where they end."""
    conv = _after(network, before, Conv)
    norm = _after(network, conv.name, BatchNorm)
    return _Step(conv, norm), norm.name


def _joins(network: Network, layer: Layer, begin: str) -> bool:
    """Whether a layer is the first sum that branches after ``begin`` meet in."""
    if not isinstance(layer.op, Add) or len(layer.inputs) != 2:
        return False
    return all(_reaches(network, end, begin) for end in layer.inputs)


def _reaches(network: Network, end: str, begin: str) -> bool:
    while end != begin:
        if end == IMAGE or len(network[end].inputs) != 1:
            return False
        end = network[end].inputs[0]
    return True


def _branch(network: Network, begin: str, end: str) -> list[_Step]:
    """The convs of a branch with their batch normalisation, ReLU between them."""
    found: list[_Step] = []
    while end != begin:
        if found:
            relu = network[end]
            if not isinstance(relu.op, Relu):
                raise NoNamesError(f"`{end}` is no ReLU, as it is in a ResNet")
            end = relu.inputs[0]
        norm = network[end] if end != IMAGE else None
        conv = network[norm.inputs[0]] if norm and norm.inputs[0] != IMAGE else None
        if norm is None or conv is None or not isinstance(norm.op, BatchNorm):
            raise NoNamesError(f"`{end}` is no BN after a conv, as it is in a ResNet")
        if not isinstance(conv.op, Conv):
            raise NoNamesError(f"`{end}` is no BN after a conv, as it is in a ResNet")
        found.insert(0, _Step(conv, norm))
        end = conv.inputs[0]
    return found


def _after(network: Network, name: str, kind: type[Op]) -> Layer:
    """The one layer that reads a tensor, of that kind."""
    readers = network.users(name)
    if len(readers) != 1 or not isinstance(readers[0].op, kind):
        raise NoNamesError(f"{_WORDS[kind]} alone does not follow `{name}`, as it does in a ResNet")
    return readers[0]
