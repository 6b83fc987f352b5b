"""A network as a PyTorch module.

Submodules and ``state_dict`` carry the names of the layers, so the same weights file serves the
module, the ONNX graph and the engine.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vggspec.base.files import named_in_text
from vggspec.compiler.backends.torch.toolkit import made_by
from vggspec.compiler.ir import IMAGE, Network, map_before
from vggspec.compiler.weights import WeightsFile, for_net

if TYPE_CHECKING:
    from collections.abc import Mapping


class SpecModule(nn.Module):
    """Runs the layers of a network in their order.

    Takes float32 ``(N, C, H, W)``, normalised as ``network.input`` says. Gives the network's
    output, or a dict of them by name where it has several.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        # A tensor is released after its last reader, as memory would otherwise grow with depth.
        last_reader = {name: layer.name for layer in network.layers for name in layer.inputs}
        kept = {output.layer for output in network.outputs}
        self._released = {
            layer.name: [
                name
                for name in dict.fromkeys(layer.inputs)
                if last_reader[name] == layer.name and name not in kept
            ]
            for layer in network.layers
        }
        for name, module in made_by(network, nn).items():
            if module is not None:
                self.add_module(name, module)
        self.register_load_state_dict_pre_hook(_view_as_needed)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        """The output for a batch of images."""
        tensors = {IMAGE: image}
        for layer in self.network.layers:
            x = [tensors[name] for name in layer.inputs]
            for name in self._released[layer.name]:
                del tensors[name]
            module = self._modules.get(layer.name)
            tensors[layer.name] = layer.op.call_torch(torch, *x) if module is None else module(*x)
        outputs = {output.name: tensors[output.layer] for output in self.network.outputs}
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _view_as_needed(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Allow FC weights to load into the convolutions that replace them, and the reverse. No other
    weights may change shape.
    """
    assert isinstance(module, SpecModule)
    for layer in module.network.layers:
        for param in layer.params:
            tensor = state_dict.get(prefix + param.name)
            shapes = {param.shape, param.stored}
            if len(param.shape) == 2:
                before = map_before(module.network, layer.inputs[0])
                kernel = before.shape if before else (param.shape[1], 1, 1)
                shapes.add((param.shape[0], *kernel))
            if isinstance(tensor, Tensor) and tuple(tensor.shape) in shapes:
                state_dict[prefix + param.name] = tensor.reshape(param.shape)


def emit(network: Network) -> SpecModule:
    """The module of a network, with PyTorch's own initial weights."""
    return SpecModule(network)


def loaded(network: Network, weights: WeightsFile, *, of: Network | None = None) -> SpecModule:
    """The module of a network with the weights of a file, which is mapped and not copied.

    ``of`` is the net that the weights are for, where ``network`` is a part of it.

    Pages of the file come into memory where they are read. To train the module changes its memory,
    never the file.

    Raises:
        VggspecError: they are another net's, or not finite, or, where they had to be read to know,
            different from the digest in their header.
    """
    from safetensors.torch import load_file

    for_net(weights, of or network)
    with named_in_text(weights.path) as name:
        return with_state(network, load_file(name))


def with_state(network: Network, state: "Mapping[str, Tensor]") -> SpecModule:
    """The module of a network with these parameters and running statistics; other arrays are
    ignored.

    Raises:
        RuntimeError: one is lacking or has another shape.
    """
    with torch.device("meta"):  # no memory, no random numbers
        module = SpecModule(network)
    wanted = {name: state[name] for name in module.state_dict() if name in state}
    module.load_state_dict(wanted, strict=True, assign=True)
    return module
