"""Batch normalisation over ranks, and how lost ranks are reported."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

from vggspec.base.failure import ending
from vggspec.training.launch import _lost
from vggspec.training.ranks import Ranks, normalise_over_ranks


@pytest.fixture
def group() -> Iterator[None]:
    """One rank: sums over ranks are those of the process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("group")
def test_batches_are_normalised_as_by_pytorch(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    alone, over_ranks = (nn.Sequential(nn.BatchNorm2d(5)) for _ in range(2))
    normalise_over_ranks(over_ranks, Ranks(rank=0, size=2, local_rank=0, local_size=2))
    assert not isinstance(over_ranks[0], nn.BatchNorm2d)
    x = torch.randn(301, 5, 3, 1) * 3 + 2  # 903 numbers a channel, which bf16 does not have
    for each in (alone, over_ranks):
        each.x = x.detach().clone().to(kind).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            each.y = each(each.x)
        each.y.float().square().mean().backward()
        assert each.y.dtype == kind
    places = 1e-5 if kind == torch.float32 else 4e-2
    torch.testing.assert_close(over_ranks.y, alone.y, atol=places, rtol=places)
    torch.testing.assert_close(over_ranks.x.grad, alone.x.grad, atol=places * 1e-3, rtol=1e-2)
    for name, parameter in alone.named_parameters():
        found = dict(over_ranks.named_parameters())[name]
        torch.testing.assert_close(found.grad, parameter.grad, atol=places, rtol=places)
    for name in ("running_mean", "running_var"):
        found, expected = (getattr(each[0], name) for each in (over_ranks, alone))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ({0: 1, 1: -9}, "rank 1 was ended by SIGKILL"),
        ({0: 255}, "rank 0 ended with exit code 255"),
        ({1: 143}, "rank 1 was ended by SIGTERM"),
        ({1: -40}, "rank 1 was ended by signal 40"),
        ({}, "no rank reported a result"),
    ],
)
def test_how_a_rank_ended_is_said(codes: dict[int, int], why: str) -> None:
    failures = {
        rank: SimpleNamespace(exitcode=code, local_rank=rank, timestamp=rank)
        for rank, code in codes.items()
    }
    assert why in str(_lost(failures))


def test_no_exit_code_is_told_too() -> None:
    assert ending(None) == "ended with exit code None"
