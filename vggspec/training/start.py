"""The initial weights of training: random ones, and those of other nets.

Source: Simonyan & Zisserman 2015, section 3.1: the first four conv layers and the three FC layers
of net A go into the deeper nets, the rest is random. The conv layers are those of the same name,
conv1_1, conv2_1, conv3_1 and conv3_2: by their order they would not even fit, as A has one layer
where the others have two.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggspec.base.catalogue.artefacts import OtherWeights
from vggspec.base.catalogue.recipes import NotImportedFrom, NotStartedFrom, TooFewLayers
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import LayersFrom
from vggspec.compiler.initialise import draw
from vggspec.compiler.input_contract import complete, expected
from vggspec.compiler.ir import ImageInput, Layer, Network, map_before
from vggspec.compiler.lower import Lowered, base_folder, load_network
from vggspec.compiler.ops.conv import AnyConv, Conv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.tensor import Param
from vggspec.compiler.weights import (
    Array,
    Metadata,
    WeightsFile,
    check_fits,
    checked,
    open_weights,
)
from vggspec.lang.loading import find_spec, split_target
from vggspec.training.runs import RUNS, FoundWeights, find_weights, places_beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A net whose weights initialise layers."""

    layers: LayersFrom
    net: Network
    weights: FoundWeights


def origins(
    lowered: Lowered, runs: Path = RUNS, given: Sequence[str | Path] = ()
) -> tuple[Origin, ...]:
    """The nets that a net starts from, each with its weights: those of ``given`` that are its own,
    else as ``find_weights`` finds them.

    Raises:
        VggspecError: a net to start from cannot be read, or has no weights; or weights that are
            given belong to another net.
    """
    specs = [
        (each, _target(each.path, str(base_folder(lowered.spec))))
        for each in lowered.experiment.train.start_from
    ]
    nets = [load_network(spec).network for _, spec in specs]
    names = tuple(dict.fromkeys(net.name for net in nets))
    named: dict[str, FoundWeights] = {}
    for path in given:
        of = open_weights(path).metadata.net or "another net"
        if len(names) == len(given) == 1:
            of = names[0]
        if of not in names or of in named:
            raise VggspecError(report(NotStartedFrom(net=of, nets=names), path=str(path)))
        named[of] = FoundWeights(path=Path(path))
    return tuple(
        Origin(
            layers=layers,
            net=net,
            weights=named.get(net.name) or _found(layers, net.name, spec, runs),
        )
        for (layers, spec), net in zip(specs, nets, strict=True)
    )


def _found(layers: LayersFrom, net: str, spec: str, runs: Path) -> FoundWeights:
    """The weights of a net, or those of the collection that the line names."""
    if layers.source is None:
        return find_weights(net, spec, runs, option="--weights")
    places = places_beside(net, spec)
    sources = {}
    for place in places:
        if place.is_file():
            sources[str(place)] = open_weights(place).metadata.source
            if sources[str(place)] == layers.source:
                return FoundWeights(path=place)
    what = NotImportedFrom(
        net=net,
        source=layers.source,
        spec=layers.path,
        looked=tuple(map(str, places)),
        found=tuple(f"`{path}` is from {of or 'elsewhere'}" for path, of in sources.items()),
    )
    raise VggspecError(report(what, path=spec))


def _target(target: str, folder: str) -> str:
    """The spec that ``start from`` names, seen from a folder, with the net after a colon."""
    path, net = split_target(target, folder)
    found = str(Path(find_spec(path, folder)))
    return found if net is None else f"{found}:{net}"


def initial_weights(
    lowered: Lowered, seed: int, runs: Path = RUNS, given: Sequence[str | Path] = ()
) -> Iterator[tuple[str, Array]]:
    """Every parameter of the net by name, one after the other.

    Random ones are those of ``vggspec init`` with the same seed. Where another net is started
    from, its files are found and its shapes compared before the first parameter is given.

    Raises:
        VggspecError: a net to start from cannot be read, has no weights, or does not fit, or its
            weights are not those that were written, or not finite.
    """
    recipe = lowered.experiment.train
    taken: dict[str, tuple[WeightsFile, str]] = {}
    for origin in origins(lowered, runs, given):
        weights = open_weights(origin.weights.path)
        pairs = _pairs(lowered.network, origin.net, origin.layers, weights)
        # A file of the features alone is enough to start from these.
        check_fits(weights, origin.net, needed={theirs.name for _, theirs in pairs})
        weights = checked(weights, [theirs.name for _, theirs in pairs], is_read=True)
        for mine, theirs in pairs:
            taken[mine.name] = weights, theirs.name
    for param in lowered.network.params():
        if param.name in taken:
            weights, name = taken[param.name]
            yield param.name, np.array(weights.read(name)).reshape(param.stored)
        else:
            numbers = np.concatenate(list(draw(param, recipe, seed)))
            yield param.name, numbers.reshape(param.stored)


def started_metadata(lowered: Lowered, found: Sequence[Origin]) -> tuple[Metadata, Path] | None:
    """The metadata and the file of the weights that the first layer starts from, or None."""
    first = next((layer for layer in lowered.network.layers if layer.op.is_weight_layer), None)
    taken = None
    for origin in found:
        weights = open_weights(origin.weights.path)
        pairs = _pairs(lowered.network, origin.net, origin.layers, weights)
        if first is not None and any(mine is first.params[0] for mine, _ in pairs):
            taken = weights.metadata, weights.path
    return taken


def expected_input(
    image: ImageInput, started: tuple[Metadata, Path]
) -> tuple[ImageInput, str] | None:
    """The input that the weights found by ``started_metadata`` expect, and their source; None if
    they do not define it.

    Raises:
        VggspecError: the spec says another one.
    """
    metadata, path = started
    if metadata.source is None or expected(metadata, image) is None:
        return None
    return complete(image, metadata, str(path))[0], metadata.source


def recorded_origins(found: Sequence[Origin]) -> list[dict[str, str]]:
    """Which weights the net starts from, for the record."""
    opened = [open_weights(each.weights.path) for each in found]
    return [
        {"weights": str(each.path.resolve()), "data_sha256": each.data_sha256()} for each in opened
    ]


def _pairs(
    network: Network, other: Network, layers_from: LayersFrom, weights: WeightsFile
) -> list[tuple[Param, Param]]:
    """Parameters of the net, each with the one of the other net that it starts from."""
    pairs: list[tuple[Param, Param]] = []
    missing: list[str] = []
    same: set[str] = set()
    for mine, theirs in _same_places(network, other, layers_from):
        if _is_fc_as_conv(mine, other, theirs):
            same.add(mine.params[0].name)
        given = _params(other, theirs)
        for key, param in _params(network, mine).items():
            if key in given:
                pairs.append((param, given[key]))
            else:
                missing.append(f"{theirs.name}: {key}")
    unlike = tuple(
        f"{theirs.name}: {_by(theirs)} in the file, {_by(mine)} in `{mine.name}`"
        for mine, theirs in pairs
        if mine.stored != theirs.stored and mine.name not in same
    )
    if missing or unlike:
        what = OtherWeights(
            net=network.name,
            missing=tuple(missing),
            unlike=unlike,
            unknown=(),
            made_for=other.name,
        )
        raise VggspecError(report(what, path=str(weights.path)))
    return pairs


def _same_places(
    network: Network, other: Network, layers_from: LayersFrom
) -> Iterator[tuple[Layer, Layer]]:
    """The layers that start from others, each with the one it starts from."""
    is_whole = layers_from.first_conv is None and layers_from.last_fc is None
    if is_whole and _of_kind(other, Linear) and not _of_kind(network, Linear):
        # A net of convs alone, such as FCN on D: the layers of the other one are found by name.
        theirs = _of_kind(other, AnyConv) + _of_kind(other, Linear)
        theirs = theirs[: len(theirs) - layers_from.but_last_fc]
        if all(layer.name in network for layer in theirs):
            yield from ((network[layer.name], layer) for layer in theirs)
            return
    convs = len(_of_kind(network, AnyConv)) if is_whole else layers_from.first_conv or 0
    fcs = len(_of_kind(network, Linear)) if is_whole else layers_from.last_fc or 0
    for kind, word, number in ((AnyConv, "conv", convs), (Linear, "FC", fcs)):
        mine, theirs = _of_kind(network, kind), _of_kind(other, kind)
        for net, layers in ((network, mine), (other, theirs)):
            requested = max(number, layers_from.but_last_fc if kind is Linear else 0)
            if len(layers) < requested:
                what = TooFewLayers(net=net.name, kind=word, requested=requested, found=len(layers))
                raise VggspecError(report(what, path=layers_from.path))
        if kind is Linear:
            spared = layers_from.but_last_fc
            mine, theirs = (layers[len(layers) - number :] for layers in (mine, theirs))
            mine, theirs = (layers[: len(layers) - spared] for layers in (mine, theirs))
        else:
            theirs = theirs[:number]
            by_name = {layer.name: layer for layer in mine}
            has_names = all(layer.name in by_name for layer in theirs)
            mine = [by_name[layer.name] for layer in theirs] if has_names else mine[:number]
        yield from zip(mine, theirs, strict=True)


def _is_fc_as_conv(mine: Layer, other: Network, theirs: Layer) -> bool:
    """Whether a conv's weights are those of an FC layer on a map of its window, byte for byte."""
    if not isinstance(mine.op, Conv) or not isinstance(theirs.op, Linear):
        return False
    before = map_before(other, theirs.inputs[0])
    window = (theirs.params[0].shape[1], 1, 1) if before is None else before.shape
    return mine.params[0].shape == (theirs.op.out_channels, *window)


def _of_kind(network: Network, kind: type[AnyConv | Linear]) -> list[Layer]:
    return [layer for layer in network.weight_layers if isinstance(layer.op, kind)]


def _params(network: Network, layer: Layer) -> dict[str, Param]:
    """The parameters of a weight layer, and of the layers up to the next one that nobody counts:
    batch normalisation, and convs of shortcuts. The first weight layer has those before it, too.
    """
    weights = network.weight_layers
    first = 0 if layer is weights[0] else network.layers.index(layer)
    ends = (network.layers.index(other) for other in weights[weights.index(layer) + 1 :])
    found: dict[str, Param] = {}
    numbers: Counter[str] = Counter()
    for each in network.layers[first : next(ends, None)]:
        before = ""
        if each is not layer and each.params:
            word = each.op.keyword
            numbers[word] += 1
            before = f"{word} " if numbers[word] == 1 else f"{word} {numbers[word]} "
        found |= {before + param.name.removeprefix(f"{each.name}."): param for param in each.params}
    return found


def _by(param: Param) -> str:
    return " × ".join(str(n) for n in param.stored)
