"""Mistakes found when an engine is given other weights (VGG62x)."""

from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count

MOST_NAMES = 6


@dataclass(frozen=True, kw_only=True)
class NoEngineToRefit(Diagnostic):
    """A refit puts other weights into a TensorRT engine. The graph of another bundle only points at
    its weights, so compiling it with others takes no longer.
    """

    code = "VGG620"
    weights: str

    def title(self) -> str:
        return "the bundle holds a graph for ONNX Runtime, and no engine to refit"

    def help(self) -> str | None:
        return (
            f"compile the net with these weights: `vggspec compile SPEC --weights {self.weights}`"
        )


@dataclass(frozen=True, kw_only=True)
class NotRefittable(Diagnostic):
    """TensorRT fits an engine's kernels to its weights, so that these can be replaced only where it
    was told so when it built the engine. That may cost speed, and so is not the usual.
    """

    code = "VGG621"
    commands: tuple[str, ...]

    def title(self) -> str:
        return "the engine was built for the weights that are in it, and takes no others"

    def help(self) -> str | None:
        return "\n".join(["build it so that it does:", *(f"  {line}" for line in self.commands)])


@dataclass(frozen=True, kw_only=True)
class OtherThanStripped(Diagnostic):
    """An engine built with ``--strip-weights`` alone is as fast as any other, because its kernels
    were chosen for these weights: so no others may be put in. With ``--refittable`` besides, any
    will do.
    """

    code = "VGG622"
    wanted: str
    found: str

    def title(self) -> str:
        return "the engine takes back only the weights that it was built from, and these are others"

    def help(self) -> str | None:
        ours = f"those whose data has the SHA-256 {self.wanted[:12]}…, not {self.found[:12]}…"
        return f"give {ours},\nor build the engine with `--strip-weights --refittable`"


@dataclass(frozen=True, kw_only=True)
class IncompleteRefit(Diagnostic):
    """After a refit every number of the engine must be of the new weights. TensorRT does not mind
    if some are not, and the net would be of two minds: so nothing is written then.
    """

    code = "VGG623"
    strange: tuple[str, ...] = ()
    """Arrays that the engine has and the net does not."""

    kept: tuple[str, ...] = ()
    """Arrays that the net has and the engine does not let replace."""

    missing: tuple[str, ...] = ()
    """Arrays that TensorRT says it was not given."""

    def title(self) -> str:
        number = len(self.strange) + len(self.kept) + len(self.missing)
        return f"the engine would keep {count(number, 'array')} that the new weights do not replace"

    def help(self) -> str | None:
        lines = [f"`{name}` is in the engine and not in the net" for name in self.strange]
        lines += [f"`{name}` cannot be replaced in the engine" for name in self.kept]
        lines += [f"`{name}` is missing, says TensorRT" for name in self.missing]
        more = [f"and {len(lines) - MOST_NAMES} more"] if len(lines) > MOST_NAMES else []
        advice = "no bundle was written; build an engine with the new weights instead"
        return "\n".join([*lines[:MOST_NAMES], *more, advice])


@dataclass(frozen=True, kw_only=True)
class RefitFailed(Diagnostic):
    """TensorRT loaded the engine and did not take the weights; what it said stands in the
    message.
    """

    code = "VGG624"
    reason: str

    def title(self) -> str:
        return f"TensorRT could not refit the engine: {self.reason}"

    def help(self) -> str | None:
        return "no bundle was written; build an engine with the new weights instead"
