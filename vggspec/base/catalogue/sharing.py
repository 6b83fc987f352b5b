"""Failures of several processes that share the images of a task (VGG56x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class LostParts(Diagnostic):
    """`eval`, `features` and `localise` under `torchrun` share the images among ranks. A rank that
    was killed, whose machine is gone, or that failed, delivers no more results. The other ranks
    finish their parts, whose results are kept, and only the missing images are computed again:

        torchrun --nproc-per-node 4 -m vggspec eval D --data DIR            lost one
        torchrun --nproc-per-node 4 -m vggspec eval D --data DIR --resume   the rest
        vggspec eval D --data DIR --resume                                  the same

    `features` writes descriptors in the order of the images, so it stops at the first one missing.
    """

    code = "VGG560"
    left: int
    total: int
    lost: tuple[tuple[int, str], ...]
    """The ranks, each with the reason."""

    def title(self) -> str:
        ranks = ", ".join(f"rank {rank} ({why})" for rank, why in self.lost[:4])
        more = f" and {len(self.lost) - 4} more" if len(self.lost) > 4 else ""
        return f"{self.left} of {count(self.total, 'image')} lack; lost: {ranks}{more}"

    HELP = "the same command with `--resume` computes them, with any number of ranks"


class LostFirstRank(Diagnostic):
    """Rank 0 deals out the images, collects the results and prints them. It has failed, which its
    own message explains, or its process or machine is gone. `eval` and `localise` keep the results
    of each rank in the cache folder of the rank's machine, from which `--resume` takes them.
    """

    code = "VGG561"
    TITLE = "rank {rank} has no rank 0 any more: {reason}"
    HELP = "the same command with `--resume` continues, with the results that are kept"
    rank: int
    reason: str


class OtherTask(Diagnostic):
    """Ranks share the images of one task, which must be the same for all. They need the same
    version of vggspec, bundles with the same weights, the same options, and images with the same
    names and classes, in whatever folder these are on each machine.
    """

    code = "VGG562"
    HELP = "start all ranks with the same command on copies of the same files"
    rank: int
    differs: tuple[str, ...]

    def title(self) -> str:
        return f"rank {self.rank} has another task than rank 0: {', '.join(self.differs)}"
