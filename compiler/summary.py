"""A net in numbers: its layers with their shapes, parameters and cost."""

import os
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass

from vggspec.base.diagnostic import Diagnostic, VggspecError
from vggspec.base.short_repr import short_repr
from vggspec.compiler.cost import LayerCost, NetworkCost, cost
from vggspec.compiler.geometry import Pair, whole
from vggspec.compiler.ir import IMAGE, Layer, Network, Output, map_before
from vggspec.compiler.lower import Lowered, load_network, lower
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.outline import Part, outline
from vggspec.compiler.sizes import Fitting, joins_of_maps, sizes
from vggspec.lang.loading import read
from vggspec.lang.packaged import packaged, title
from vggspec.lang.parser import parse


@short_repr
@dataclass(frozen=True, slots=True)
class Summary:
    """A net, and its cost at the size of its input."""

    path: str
    """The file of the spec."""

    network: Network
    cost: NetworkCost
    batch: int | None
    """The images of a training step; None for a net that is not in the form of training."""

    training_bytes: int | None
    """The memory that such a step takes at least."""

    fitting: Fitting | Diagnostic | None
    """The sizes for which its branches meet, applied densely, or why they meet at few; None for a
    net without branches."""

    is_fixed: bool
    """Whether FC layers take a map of one size, so that the image has one."""

    outline: tuple[Part, ...]
    """The layers in the structure in which they are written."""

    def layers(self, *, implied: bool = False) -> list[tuple[Layer, LayerCost]]:
        """The layers with their costs; ``implied`` includes ReLU, dropout and flatten."""
        pairs = zip(self.network.layers, self.cost.layers, strict=True)
        return [(layer, each) for layer, each in pairs if implied or not layer.op.is_implied]

    def outputs(self) -> list[tuple[Output, LayerCost]]:
        """The results of the net, with what is known of the layers that compute them."""
        costs = {each.name: each for each in self.cost.layers}
        return [(output, costs[output.layer]) for output in self.network.outputs]

    def as_data(self, *, implied: bool = False) -> dict[str, object]:
        """The numbers for JSON. Sizes are in pixels, shapes (C, H, W); the inputs of a layer are
        those of the layers here that it reads, or the image.
        """
        pairs = self.layers(implied=implied)
        sources = self._sources({layer.name for layer, _ in pairs})
        fitting: dict[str, object] = {}
        if isinstance(self.fitting, Fitting):
            some = self.fitting.sizes
            fitting["sizes"] = some if some == "any" else asdict(some)
            fitting["least_size"] = list(self.fitting.least)
        elif self.fitting is not None:
            fitting["sizes"] = None
        return (
            totals(self.network, self.cost)
            | fitting
            | {
                "outputs": [
                    {
                        "name": output.name,
                        "layer": output.layer,
                        "output": list(each.output),
                        "receptive_field": _square(each.receptive_field),
                        "stride": _square(each.stride),
                    }
                    for output, each in self.outputs()
                ],
                "layers": [
                    {
                        "name": each.name,
                        "op": each.op,
                        "inputs": [sources[name] for name in layer.inputs],
                        "output": list(each.output),
                        "parameters": each.parameters,
                        "macs": each.macs,
                        "receptive_field": _square(each.receptive_field),
                        "stride": _square(each.stride),
                    }
                    for layer, each in pairs
                ],
            }
        )

    def _sources(self, listed: AbstractSet[str]) -> dict[str, str]:
        """The listed layer, or the image, that each tensor comes from."""
        found = {IMAGE: IMAGE}
        for layer in self.network.layers:
            is_listed = layer.name in listed
            found[layer.name] = layer.name if is_listed else found[layer.inputs[0]]
        return found


@short_repr
@dataclass(frozen=True, slots=True)
class PackagedSpec:
    """A spec that comes with vggspec."""

    name: str
    path: str
    title: str
    """Its first sentence."""

    nets: tuple[Network, ...]
    """Several for a table."""

    def as_data(self) -> dict[str, object]:
        """The spec for JSON."""
        nets = [totals(network, cost(network)) for network in self.nets]
        return {"name": self.name, "path": self.path, "title": self.title, "nets": nets}


def packaged_specs() -> tuple[PackagedSpec, ...]:
    """The specs that come with vggspec, with their nets."""
    found = []
    for name, path in packaged().items():
        source = read(path)
        nets = tuple(lower(spec).network for spec in parse(source).specs)
        found.append(PackagedSpec(name, path, title(source.text), nets))
    return tuple(found)


def totals(network: Network, costs: NetworkCost) -> dict[str, object]:
    """The numbers of a net as a whole, for JSON."""
    return {
        "name": network.name,
        "input": list(network.input.type.shape),
        "weight_layers": len(network.weight_layers),
        "parameters": costs.parameters,
        "macs": costs.macs,
    }


def summarise(
    spec: str | os.PathLike[str], *, at: tuple[int, int] | None = None, dense: bool = False
) -> Summary:
    """The layers of a net with their shapes, parameters and cost.

    ``at`` is another height and width of the input, in pixels; ``dense`` takes the fully
    convolutional form, which fits any size.

    Raises:
        VggspecError: the spec cannot be read or has mistakes, or does not fit the size.
    """
    return summary_of(load_network(spec), at=at, dense=dense)


def summary_of(
    lowered: Lowered, *, at: tuple[int, int] | None = None, dense: bool = False
) -> Summary:
    """As ``summarise``, for a spec that is lowered already.

    Raises:
        VggspecError: the net does not fit the size.
    """
    network = lowered.network
    if dense:
        network = _dense(network)
    if at is not None:
        network = network.at(*at)
    recipe, costs = lowered.experiment.train, cost(network)
    is_trained = network is lowered.network
    return Summary(
        path=lowered.spec.source.name,
        network=network,
        cost=costs,
        batch=recipe.batch if is_trained else None,
        training_bytes=(
            costs.training_bytes(recipe.batch, recipe.copies_kept) if is_trained else None
        ),
        fitting=_fitting(network),
        is_fixed=any(_reads_map(network, layer) for layer in network.layers),
        outline=outline(network, lowered.steps),
    )


def _dense(network: Network) -> Network:
    from vggspec.compiler.passes.fc_to_conv import FcToConv

    return FcToConv()(network)


def _fitting(network: Network) -> Fitting | Diagnostic | None:
    if not joins_of_maps(network):
        return None
    try:
        return sizes(_dense(network))
    except VggspecError as error:
        return error.reports[0].what


def _reads_map(network: Network, layer: Layer) -> bool:
    """Whether it is an FC that reads a map of several positions."""
    if not isinstance(layer.op, Linear):
        return False
    read = map_before(network, layer.inputs[0])
    return read is not None and read.size != (1, 1)


def _square(sides: Pair) -> float | list[float]:
    rows, columns = map(whole, sides)
    return rows if rows == columns else [rows, columns]
