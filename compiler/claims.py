"""Claims: sentences of a spec about its net, which are checked."""

import re

from vggspec.base.catalogue import layers
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.source import Span
from vggspec.compiler.ir import Network
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.linear import Linear
from vggspec.lang.ast import Claim

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def falsehood(claim: Claim, network: Network) -> tuple[Diagnostic, Span] | None:
    """The mistake in a claim about a net and its place, or None if the claim is true."""
    if claim.kind == "weight layers":
        return _of_weight_layers(claim, network)
    return _of_parameters(claim, network)


def _of_weight_layers(claim: Claim, network: Network) -> tuple[Diagnostic, Span] | None:
    text = claim.number.text
    if not re.fullmatch(r"\d{1,9}", text):
        what = layers.OptionValue(word=text[:40], expected="a whole number")
        return what, claim.number.span
    convs = sum(isinstance(layer.op, Conv) for layer in network.layers)
    fcs = sum(isinstance(layer.op, Linear) for layer in network.layers)
    if int(text) == convs + fcs:
        return None
    false = layers.FalseWeightLayers(
        net=network.name,
        claimed=int(text),
        actual=convs + fcs,
        breakdown=f"{convs} conv and {fcs} FC",
    )
    return false, claim.span


def _of_parameters(claim: Claim, network: Network) -> tuple[Diagnostic, Span] | None:
    text = claim.number.text
    match = re.fullmatch(r"(\d{1,15})(?:\.(\d{1,6}))?([KMGB]?)", text, re.IGNORECASE)
    if match is None:
        expected = "a number such as `138M` or `138357544`"
        return layers.OptionValue(word=text[:40], expected=expected), claim.number.span
    letter, decimals = match[3], len(match[2] or "")
    claimed = int(match[1] + (match[2] or ""))
    rounded = _rounded(network.parameters, letter, decimals)
    if rounded == claimed:
        return None
    if rounded == 0:  # `138M` for a net of thousands: the digits that there are
        letter, decimals = ("K" if network.parameters >= 1000 else ""), 0
        rounded = _rounded(network.parameters, letter, decimals)
    digits = str(rounded).rjust(decimals + 1, "0")
    shown = digits if not decimals else f"{digits[:-decimals]}.{digits[-decimals:]}"
    false = layers.FalseParameters(
        net=network.name, claimed=text, actual=network.parameters, rounded=f"{shown}{letter}"
    )
    return false, claim.span


def _rounded(number: int, letter: str, decimals: int) -> int:
    """``number`` in units of the last digit written, rounded half up."""
    unit = _UNITS[letter.upper()]
    return (2 * number * int(10**decimals) + unit) // (2 * unit)
