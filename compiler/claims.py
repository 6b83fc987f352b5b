"""Claims: sentences of a spec about its net, which are checked."""

import re

from vggspec.base.catalogue import graphs, layers
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.source import Span
from vggspec.compiler.ir import IMAGE, Network
from vggspec.compiler.ops.linear import Linear
from vggspec.lang.ast import Claim

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def falsehood(claim: Claim, network: Network) -> tuple[Diagnostic, Span] | None:
    """The mistake in a claim about a net and its place, or None if the claim is true."""
    match claim.kind:
        case "weight layers" | "weight layers deep":
            return _of_weight_layers(claim, network)
        case "parameters":
            return _of_number(claim, network.parameters, network)
        case "MACs":
            macs = (layer.op.macs(network.types_of(layer), layer.type) for layer in network.layers)
            return _of_number(claim, sum(macs), network)


def _of_weight_layers(claim: Claim, network: Network) -> tuple[Diagnostic, Span] | None:
    text = claim.number.text
    if not re.fullmatch(r"\d{1,9}", text):
        what = layers.OptionValue(word=text[:40], expected="a whole number")
        return what, claim.number.span
    if claim.kind == "weight layers deep":
        deep = depth(network)
        if int(text) == deep:
            return None
        return graphs.FalseDepth(net=network.name, claimed=int(text), actual=deep), claim.span
    written = network.weight_layers
    if int(text) == len(written):
        return None
    fcs = sum(isinstance(layer.op, Linear) for layer in written)
    false = layers.FalseWeightLayers(
        net=network.name,
        claimed=int(text),
        actual=len(written),
        breakdown=f"{len(written) - fcs} conv and {fcs} FC",
    )
    return false, claim.span


def depth(network: Network) -> int:
    """Weight layers on the longest path from the image to an output."""
    deep = {IMAGE: 0}
    for layer in network.layers:
        before = max(deep[name] for name in layer.inputs)
        deep[layer.name] = before + layer.op.is_weight_layer
    return max(deep.values())


def _of_number(claim: Claim, actual: int, network: Network) -> tuple[Diagnostic, Span] | None:
    text = claim.number.text
    match = re.fullmatch(r"(\d{1,15})(?:\.(\d{1,6}))?([KMGB]?)", text, re.IGNORECASE | re.ASCII)
    if match is None:
        expected = "a number such as `138M` or `138357544`"
        return layers.OptionValue(word=text[:40], expected=expected), claim.number.span
    letter, decimals = match[3], len(match[2] or "")
    claimed = int(match[1] + (match[2] or ""))
    rounded = _rounded(actual, letter, decimals)
    if rounded == claimed:
        return None
    if rounded == 0:  # `138M` for a net of thousands: the digits that there are
        letter, decimals = ("K" if actual >= 1000 else ""), 0
        rounded = _rounded(actual, letter, decimals)
    digits = str(rounded).rjust(decimals + 1, "0")
    shown = digits if not decimals else f"{digits[:-decimals]}.{digits[-decimals:]}"
    kind = layers.FalseParameters if claim.kind == "parameters" else graphs.FalseMacs
    false = kind(net=network.name, claimed=text, actual=actual, rounded=f"{shown}{letter}")
    return false, claim.span


def _rounded(number: int, letter: str, decimals: int) -> int:
    """``number`` in units of the last digit written, rounded half up."""
    unit = _UNITS[letter.upper()]
    return (2 * number * int(10**decimals) + unit) // (2 * unit)
