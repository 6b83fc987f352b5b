"""Notes about the normalisation of a net's input if its spec does not define it."""

from typing import TYPE_CHECKING

from vggspec.base.render import shown
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from vggspec.bundle.manifest import InputContract
    from vggspec.compiler.input_contract import MeanFrom
    from vggspec.compiler.weights import Metadata


def tell_input(
    contract: "InputContract", mean_from: "MeanFrom", weights: "Metadata", net: str | None = None
) -> None:
    """Print what was taken from the weights, or that neither they nor the spec name a mean; ``net``
    is named where there are several.
    """
    from vggspec.compiler.input_contract import formula

    of = f" of {shown(net)}" if net else ""
    if mean_from == "ILSVRC":
        numbers = " ".join(f"{value:g}" for value in contract.mean)
        text = f"neither the spec nor the weights say one, so that of ILSVRC: {numbers}"
        say("", f"mean{of}: {text}")
    elif mean_from == "weights" and weights.source is not None:
        text = formula(contract.mean, contract.std, contract.scale)
        whose = "" if weights.source == "spec" else f" ({shown(weights.source)})"
        say("", f"input{of}: {text}, as the weights expect{whose}")
