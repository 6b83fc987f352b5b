"""Padding in place of ``ceil_mode``: the numbers of PyTorch's own, for every size of the map."""

import pytest
import torch
from torch import nn

from tests.nets import net
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.passes import CeilAsPadding
from vggspec.compiler.tensor import TensorType

WINDOWS = [(k, s, p) for k in (1, 2, 3, 4) for s in (1, 2, 3, 5) for p in range(k // 2 + 1)]


@pytest.mark.parametrize(("kernel", "stride", "pad"), WINDOWS)
def test_the_numbers_are_those_of_ceil_mode(kernel: int, stride: int, pad: int) -> None:
    options = f"(pad {pad}, ceil)" if pad else "(ceil)"
    lowered = net(f"net t\ninput 12x12 gray\nmaxpool{kernel}/{stride}{options} gap FC-2 soft-max")
    once = CeilAsPadding()(lowered.network)
    assert CeilAsPadding()(once) is once
    op = once["pool1"].op
    assert isinstance(op, MaxPool)
    assert not op.ceil
    peer = nn.MaxPool2d(kernel, stride, pad, ceil_mode=True)
    torch.manual_seed(0)
    for height in range(max(kernel - pad, 1), kernel + 2 * stride + 2):
        x = -torch.rand(1, 2, height, height + 3)  # a padding of zeros would win
        found = op.to_torch(nn, (TensorType(tuple(x.shape[1:])),))(x)
        torch.testing.assert_close(found, peer(x), rtol=0, atol=0)
        assert op.infer((TensorType(tuple(x.shape[1:])),)).shape == tuple(found.shape[1:])


def test_averages_keep_it() -> None:
    network = net("net t\ninput 9x9 gray\nconv3-2 avgpool(ceil) gap FC-2 soft-max").network
    assert CeilAsPadding()(network) is network
