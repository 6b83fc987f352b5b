"""Ranks: the processes that train one net together, each on a device of its own.

They have the same weights, take parts of the same batches, and add up their gradients, so the
result is that of one device (Simonyan & Zisserman 2015, section 3.3). A launcher, ``torchrun`` or
``vggspec.training.launch``, gives each its number in the environment.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from vggspec.base.catalogue.ranks import CannotMeet, LostRank, WrongLauncher
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.launched import is_launched, launched
from vggspec.base.wording import foreign
from vggspec.training.order import Share

T = TypeVar("T")

#: A rank that is silent for this long is lost. Reading thousands of images for the statistics,
#: while the others wait, takes less.
PATIENCE = timedelta(minutes=30)

STORE = "vggspec"
SPEAKS = "error"


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; it may be the only one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the ranks of this machine."""

    local_size: int = 1
    store: Store | None = None

    @property
    def share(self) -> Share:
        """This rank's part of whatever is shared out."""
        return Share(self.rank, self.size)

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes and reports."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value added up over the ranks, the same on all of them to the last bit.

        Raises:
            VggspecError: a rank is lost.
        """
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        with lost_ranks():
            dist.all_reduce(sums)
        return sums.tolist()

    def gather(self, mine: T) -> list[T]:
        """The value of each rank, in their order.

        Raises:
            VggspecError: a rank is lost.
        """
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        with lost_ranks():
            dist.all_gather_object(found, mine)
        return found

    def from_first(self, mine: T | None) -> T:
        """The value of the first rank.

        Raises:
            VggspecError: a rank is lost.
        """
        found = [mine]
        if self.size > 1:
            with lost_ranks():
                dist.broadcast_object_list(found)
        assert found[0] is not None, "the first rank has something"
        return found[0]

    def parallel(self, model: nn.Module, *, is_static: bool) -> nn.Module:
        """The model with gradients that are averaged over the ranks while they are computed.

        ``is_static`` promises that every backward pass is averaged and uses the same parameters.
        """
        if self.size == 1:
            return model
        place = next(model.parameters()).device
        return DistributedDataParallel(
            model,
            device_ids=[place] if place.type == "cuda" else None,
            gradient_as_bucket_view=True,
            static_graph=is_static,
        )

    def speaks(self) -> bool:
        """Whether this rank reports why all ranks end: the first one that asks."""
        if self.store is None:
            return True
        try:
            first: bytes = self.store.compare_set(SPEAKS, "", str(self.rank))
        except RuntimeError:
            return True  # the process with the store is gone
        return first.decode() == str(self.rank)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that a launcher has started, connected; without a launcher this process alone.

    Raises:
        VggspecError: they cannot connect.
    """
    try:
        launched()
    except ValueError as error:
        raise VggspecError(report(WrongLauncher(reason=str(error)))) from error
    if not is_launched():
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        what = CannotMeet(where=where, reason=_first_sentence(error))
        raise VggspecError(report(what)) from error
    yield Ranks(
        rank,
        size,
        int(os.environ.get("LOCAL_RANK", "0")),
        int(os.environ.get("LOCAL_WORLD_SIZE", size)),
        PrefixStore(STORE, store),
    )
    # Only on success: after an error the other ranks would wait here for this one.
    dist.destroy_process_group()


class _SumOverRanks(torch.autograd.Function):
    """A tensor added up over the ranks; its gradient is too."""

    @staticmethod
    def forward(_: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _BatchNorm(nn.Module):
    """Batch normalisation over the images of all ranks, on any device.

    Source: Ioffe & Szegedy 2015, algorithm 1. PyTorch's own, ``SyncBatchNorm``, requires a GPU.
    """

    def __init__(self, alone: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        assert alone.running_mean is not None, "the compiler's modules track them"
        assert alone.running_var is not None, "the compiler's modules track them"
        assert alone.momentum is not None, "the compiler's modules have one"
        self.weight, self.bias = alone.weight, alone.bias
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", alone.running_mean)
        self.register_buffer("running_var", alone.running_var)
        self.eps, self.momentum = alone.eps, alone.momentum

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        with torch.autocast(x.device.type, enabled=False):
            # In bf16 neither sums nor the number of images would be right.
            numbers = x.float() if x.dtype == torch.bfloat16 else x
            return self._normalised(numbers).to(x.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *(1 for _ in axes[1:])]
        number = x.new_tensor([x.numel() / x.shape[1]])
        total = _sum(torch.cat([x.sum(axes), number]))
        number, mean = total[-1].detach(), total[:-1] / total[-1].detach()
        centred = x - mean.view(shape)
        variance = _sum((centred * centred).sum(axes)) / number
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)


def normalise_over_ranks(model: nn.Module, ranks: Ranks) -> None:
    """Make batch normalisation use the whole batch, not this rank's part of it."""
    if ranks.size == 1:
        return
    if next(model.parameters()).device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, _BatchNorm(module))


@contextmanager
def lost_ranks() -> Iterator[None]:
    """Turn a lost connection into a report.

    Raises:
        VggspecError: a rank is lost.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise VggspecError(report(LostRank(reason=_first_sentence(error)))) from error
        raise


def _sum(mine: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(mine)  # type: ignore[no-untyped-call]
    return total


def _first_sentence(error: Exception) -> str:
    return foreign(str(error).strip().partition("\n")[0]) or type(error).__name__
