"""VGG-16 applied densely, in plain PyTorch, with the weights of a vggspec file."""

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WIDTHS = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]


class DenseVgg16(nn.Module):
    """FC layers as convolutions, class scores averaged over space, soft-max."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            if width == 0:
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        layers += [nn.Conv2d(512, 4096, 7), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(4096, 4096, 1), nn.ReLU(inplace=True), nn.Conv2d(4096, 1000, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Posteriors ``(N, 1000)`` of images ``(N, 3, H, W)``."""
        return self.layers(image).mean((2, 3)).softmax(1)


def load(path: str) -> DenseVgg16:
    """The net with the weights of ``path``; they are mapped, not copied."""
    with torch.device("meta"):
        module = DenseVgg16()
    module.load_state_dict(state_of(path, module), assign=True)
    return module.eval()


def state_of(path: str, module: DenseVgg16) -> dict[str, Tensor]:
    """The weights of ``path`` by the names that they have in the module."""
    tensors = load_file(path)
    blocks = ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
    names = [f"conv{block}_{i}" for block, n in blocks for i in range(1, n + 1)]
    names += ["fc6", "fc7", "fc8"]
    wanted = module.state_dict()
    state = {}
    for i, key in enumerate(wanted):
        name = f"{names[i // 2]}.{key.rpartition('.')[2]}"
        state[key] = tensors[name].reshape(wanted[key].shape)
    return state
