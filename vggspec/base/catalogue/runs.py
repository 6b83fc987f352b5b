"""Mistakes about runs and taking them up again (VGG49x)."""

from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class NoRun(Diagnostic):
    """``--resume`` goes on with a run that was interrupted: the one that ``--out`` names, else the
    newest of the net under ``runs/<net>/``.
    """

    code = "VGG491"
    reason: str

    def title(self) -> str:
        return f"there is no run to go on with: {self.reason}"

    def help(self) -> str | None:
        return "begin one without `--resume`, or name its folder after `--out`"


@dataclass(frozen=True, kw_only=True)
class OtherRun(Diagnostic):
    """A run that is taken up again gives what it would have given without the interruption. So the
    spec, its settings, the seed and the data have to be the same; only how fast it is computed,
    the number of GPUs for instance, may change.
    """

    code = "VGG492"
    differences: tuple[str, ...]

    def title(self) -> str:
        return "this run was begun with something else"

    def help(self) -> str | None:
        return "\n".join((*self.differences, "begin a run of its own, without `--resume`"))


@dataclass(frozen=True, kw_only=True)
class BadCheckpoint(Diagnostic):
    """A checkpoint is written whole or not at all, and states the digests of its weights, of its
    momentum and of the state of the run. So this one was damaged later, on the disk or while it was
    copied, and going on from it would give other results without a word. Weights of the run that
    are whole, such as ``best.safetensors``, can be compiled, or begin a new run by ``start from``.
    """

    code = "VGG493"
    reason: str
    older: str | None = None
    """A checkpoint before it."""

    whole: tuple[str, ...] = ()
    """Weights of the run that are as they were written."""

    def title(self) -> str:
        return f"the checkpoint cannot be used: {self.reason}"

    def help(self) -> str | None:
        if self.older is not None:
            return f"move it away; `--resume` then takes the checkpoint before it, {self.older}"
        lines = ["copy it again from where it came, or begin a new run without `--resume`"]
        if self.whole:
            lines.append(f"weights of this run that are whole: {', '.join(self.whole[-3:])}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class BadRecord(Diagnostic):
    """``run.json`` says what a run was begun with, and cannot be understood."""

    code = "VGG494"
    reason: str

    def title(self) -> str:
        return f"the record of the run is damaged: {self.reason}"

    def help(self) -> str | None:
        return "begin a run of its own, without `--resume`"


@dataclass(frozen=True, kw_only=True)
class RunInUse(Diagnostic):
    """Another process is training in this folder at this moment. Two would overwrite each other's
    checkpoints.
    """

    code = "VGG495"

    def title(self) -> str:
        return "another process is at work on this run"

    def help(self) -> str | None:
        return "wait for it, or stop it; Ctrl-C lets it save first"
