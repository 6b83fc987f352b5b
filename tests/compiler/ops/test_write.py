"""Ops as one would write them."""

import pytest
from hypothesis import given, settings

from tests.strategies import net_texts
from vggspec.base.source import Source
from vggspec.compiler.lower import lower
from vggspec.compiler.ops.op import Op
from vggspec.lang.parser import parse


def _ops(text: str) -> list[Op]:
    network = lower(parse(Source("net.vgg", text)).specs[0]).network
    return [layer.op for layer in network.layers if layer.op.syntax is not None]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("CONV3-64", "conv3-64"),
        ("conv1×7-64/1(pad 0x3)", "conv1x7-64"),
        ("conv3-64(dilation 2, pad 2)", "conv3-64(dilation 2)"),
        ("conv2-4(pad 1)", "conv2-4(pad 1)"),
        ("conv3-6(no-bias, linear, groups 3)", "conv3-6(groups 3, linear, no-bias)"),
        ("maxpool2/2", "maxpool"),
        ("avgpool2/1", "avgpool2/1"),
        ("maxpool3(ceil, pad 1)", "maxpool3/2(pad 1, ceil)"),
        ("LRN(n 5, k 2, alpha 1e-4, beta 0.75)", "LRN"),
        ("LRN(alpha 5e-4, n 3)", "LRN(n 3, alpha 0.0005)"),
        ("dropout", "dropout(0.5)"),
        ("gap", "gap"),
    ],
)
def test_the_shortest_spelling(said: str, wanted: str) -> None:
    assert _ops(f"input 16x16 RGB\n{said}")[0].write() == wanted


@settings(max_examples=60, deadline=None)
@given(net_texts())
def test_what_is_written_reads_as_the_same_op(text: str) -> None:
    ops = _ops(text)
    image = text.splitlines()[1]
    said = "\n".join(op.write() for op in ops)
    # Written out, the recipe's dropout is the net's own, so no other is added.
    assert _ops(f"{image}\n{said}") == ops
