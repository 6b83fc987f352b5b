"""Mistakes about runs and resuming them (VGG49x)."""

from vggspec.base.diagnostic import Diagnostic


class NoRun(Diagnostic):
    """``--resume`` resumes a run that was interrupted: the one that ``--out`` names, else the
    newest of the net under ``runs/<net>/``.
    """

    code = "VGG491"
    TITLE = "there is no run to resume: {reason}"
    HELP = "start one without `--resume`, or name its folder after `--out`"
    reason: str


class OtherRun(Diagnostic):
    """A resumed run gives the result that it would have given without the interruption. So the
    spec, its settings, the seed and the data must be the same; only what affects the speed alone,
    such as the number of GPUs, may change.
    """

    code = "VGG492"
    TITLE = "this run was started with other values"
    differences: tuple[str, ...]

    def help(self) -> str | None:
        return "\n".join((*self.differences, "start a new run, without `--resume`"))


class BadCheckpoint(Diagnostic):
    """A checkpoint is written whole or not at all, with the digests of its weights, its momentum
    and the state of the run. So this one was damaged later, on the disk or in a copy, and a run
    resumed from it would silently give other results. Intact weights of the run, such as
    ``best.safetensors``, can be compiled, or start a new run by ``start from``.
    """

    code = "VGG493"
    TITLE = "the checkpoint cannot be used: {reason}"
    reason: str
    older: str | None = None
    """The previous checkpoint."""

    whole: tuple[str, ...] = ()
    """Intact weights of the run."""

    def help(self) -> str | None:
        if self.older is not None:
            return f"move it away; `--resume` then takes the previous checkpoint, {self.older}"
        lines = ["copy it again from its source, or start a new run without `--resume`"]
        if self.whole:
            lines.append(f"intact weights of this run: {', '.join(self.whole[-3:])}")
        return "\n".join(lines)


class BadRecord(Diagnostic):
    """``run.json`` records the settings of a run, and cannot be read."""

    code = "VGG494"
    TITLE = "the record of the run is damaged: {reason}"
    HELP = "start a new run, without `--resume`"
    reason: str


class RunInUse(Diagnostic):
    """Another process is training in this folder. Two processes would overwrite each other's
    checkpoints.
    """

    code = "VGG495"
    TITLE = "another process is training this run"
    HELP = "wait for it, or stop it; Ctrl-C lets it save first"


class NotOfRun(Diagnostic):
    """A model card states the data and the results of a training run beside a bundle. That is true
    only if the bundle has weights of that run, ``best.safetensors`` or ``last.safetensors``, which
    their digests tell.
    """

    code = "VGG496"
    TITLE = "the bundle's weights are not those of the run `{run}`"
    HELP = "name the run that they come from, or compile `best.safetensors` of this one"
    run: str


class NotARun(Diagnostic):
    """``vggspec compare`` compares runs by their folders. ``vggspec train`` prints the folder of a
    run when it begins, ``runs/<net>/<date>-<number>`` unless ``--out`` names another; it contains
    ``run.json`` and ``log.jsonl``.
    """

    code = "VGG471"
    TITLE = "this is not the folder of a run: {reason}"
    reason: str
    newest: str | None = None
    """The newest run in it, if it contains runs."""

    def help(self) -> str | None:
        if self.newest is not None:
            return f"name one of the runs in it, such as {self.newest}"
        return "name a folder that `vggspec train` has made"
