"""Makes the activations of named layers the outputs, and removes what none of them needs.

A name means what it means in a spec: a conv's or FC's numbers after its batch normalisation and
its activation.

Given   … conv1_2 -> relu1_2 -> … -> fc8 -> prob      output posteriors
Result  … conv1_2 -> relu1_2 -> … -> relu4_3          outputs conv1_2, conv4_3
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.compiler.ir import Network, Output
from vggspec.compiler.passes.keep_up_to import meant, needed_for


@dataclass(frozen=True, slots=True)
class KeepOutputs:
    """Makes the layers called ``names`` the outputs, in their order."""

    name: ClassVar[str] = "keep-outputs"

    names: tuple[str, ...]

    def __call__(self, network: Network) -> Network:
        """The network with those outputs.

        Raises:
            VggspecError: there is no such layer.
        """
        tensors = [meant(network, name) for name in self.names]
        outputs = [
            Output(name, layer.name) for name, layer in zip(self.names, tensors, strict=True)
        ]
        return network.rebuild(needed_for(network, tensors), outputs)
