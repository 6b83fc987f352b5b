"""Mistakes and failures of several processes that train together (VGG48x)."""

from vggspec.base.diagnostic import Diagnostic


class TooManyRanks(Diagnostic):
    """Each batch is divided among the ranks, so with more ranks than images in a batch some
    ranks would never have any work; and every rank needs a device.
    """

    code = "VGG481"
    TITLE = "{ranks} ranks are requested, and there are {available} {of}"
    ranks: int
    available: int
    of: str
    """What limits the number of ranks, such as GPUs."""

    def help(self) -> str | None:
        return f"request at most {self.available}" if self.available else "train on CPUs: --gpus 0"


class CannotMeet(Diagnostic):
    r"""The ranks meet at an address and a port, `MASTER_ADDR` and `MASTER_PORT`, which a launcher
    sets. Another program uses the port, the address is wrong, or a rank did not start.

        torchrun --nnodes 2 --nproc-per-node 8 \
            --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
            -m vggspec train specs/D.vgg

    ``vggspec train --gpus N`` finds a free port by itself. Where `RANK` and `WORLD_SIZE` are set
    for every process, as in jobs of some clusters, `env -u RANK` before a command starts it alone.
    """

    code = "VGG482"
    TITLE = "the ranks cannot meet at {where}: {reason}"
    HELP = "give another `--master-port` to torchrun, or set MASTER_PORT"
    where: str
    reason: str


class WrongLauncher(Diagnostic):
    """A launcher sets `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` for each process that
    it starts. Ranks are counted from 0, and all processes have the same address and port.
    """

    code = "VGG484"
    TITLE = "the variables of a launcher are wrong: {reason}"
    HELP = (
        "start it by torchrun, set all four, or begin with `env -u RANK -u WORLD_SIZE` for one"
        " process"
    )
    reason: str


class LostRank(Diagnostic):
    """A rank can no longer be reached: it was killed, perhaps by the system for lack of memory,
    its machine is gone, or it ended with an error of its own, which is then shown above.
    """

    code = "VGG483"
    TITLE = "a rank was lost: {reason}"
    HELP = "the same command with `--resume` resumes from the last checkpoint"
    reason: str
