"""The layers that a recipe names, to freeze them or to change their rate."""

from collections.abc import Mapping
from dataclasses import replace

from vggspec.base.catalogue.recipes import NothingToTrain, UnknownTrainedLayer
from vggspec.base.diagnostic import Diagnostic, report
from vggspec.base.recipe import TrainRecipe
from vggspec.base.reports import Reports
from vggspec.base.wording import nearest
from vggspec.compiler.ir import Network
from vggspec.lang.ast import Spec
from vggspec.lang.sections import layer_words


def with_layers(
    recipe: TrainRecipe, spec: Spec, network: Network, names: Mapping[str, str], reports: Reports
) -> TrainRecipe:
    """The recipe with its layers as the network calls them.

    ``names`` are those that the spec gives to results. Layers that do not exist, and a recipe that
    trains nothing, are reported at their places in the spec.
    """
    known = {name.casefold(): layer for name, layer in names.items()}
    known |= {layer.name.casefold(): layer.name for layer in network.layers}
    words = list(layer_words(spec))

    def refuse(what: Diagnostic, layer: str) -> None:
        places = [word.span for word in words if word.text.casefold() == layer.casefold()]
        reports.add(report(what, spec.source, places[0]))

    def found(layer: str) -> str:
        name = known.get(layer.casefold())
        if name is None:
            like = nearest(layer, tuple(known.values()))
            refuse(UnknownTrainedLayer(layer=layer, like=like), layer)
        return name or ""

    frozen = tuple(
        part if part.up_to is None else replace(part, up_to=found(part.up_to))
        for part in recipe.frozen
    )
    rates = tuple((found(layer), by) for layer, by in recipe.rates_of)
    written = {found: part.up_to or "" for found, part in zip(frozen, recipe.frozen, strict=True)}
    changed = replace(recipe, frozen=frozen, rates_of=rates)
    if len(reports):
        return changed
    trained = [layer for layer in network.layers if layer.params]
    for part in frozen:
        if frozen_layers(network, part.up_to) >= {layer.name for layer in network.weight_layers}:
            name = written[part]
            what = NothingToTrain(
                why=f"no weight layer comes after `{name}`: nothing is trained",
                way="freeze fewer layers",
            )
            refuse(what, name)
    always = [frozen_layers(network, part.up_to) for part in frozen]
    for (name, _), (layer, _) in zip(recipe.rates_of, rates, strict=True):
        why = way = None
        if all(each.name != layer for each in trained):
            why, way = f"`{name}` has no weights", "name a weight layer"
        elif always and all(layer in part for part in always):
            why, way = f"`{name}` is frozen all the time", "leave one of the two out"
        if why and way:
            refuse(NothingToTrain(why=why, way=way), name)
    return changed


def frozen_layers(network: Network, up_to: str | None) -> set[str]:
    """A layer and all those on the way from the image to it."""
    found: set[str] = set()
    waiting: list[str] = [] if up_to is None else [up_to]
    names = {layer.name for layer in network.layers}
    while waiting:
        name = waiting.pop()
        if name in names and name not in found:
            found.add(name)
            waiting.extend(network[name].inputs)
    return found
