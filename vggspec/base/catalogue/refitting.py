"""Mistakes found when an engine gets new weights (VGG588, VGG62x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count

MOST_NAMES = 6


class NoEngineToRefit(Diagnostic):
    """A refit replaces the weights in a TensorRT engine. An ONNX graph only points at its weights,
    so compiling it again with others takes no longer.
    """

    code = "VGG620"
    TITLE = "the bundle contains a graph for ONNX Runtime, and no engine to refit"
    HELP = "compile the net with these weights: `vggspec compile SPEC --weights {weights}`"
    weights: str


class NotRefittable(Diagnostic):
    """TensorRT fits an engine's kernels to its weights. The weights can only be replaced in an
    engine that was built with ``--refittable``, which may cost speed and is not the default.
    """

    code = "VGG621"
    TITLE = "the engine was built for the weights that are in it, and takes no others"
    commands: tuple[str, ...]

    def help(self) -> str | None:
        return "\n".join(
            ["build it with `--refittable`:", *(f"  {line}" for line in self.commands)]
        )


class NeverRefitted(Diagnostic):
    """Two kinds of engines cannot be refitted, as they contain more than weights: one that compares
    two pictures the factors of the channels, one in int8 the ranges of its calibration.

        vggspec refit lpips w.safetensors                                    wrong
        vggspec compile lpips --distance --trt --weights w.safetensors       right
    """

    code = "VGG588"
    TITLE = "an engine {kind} takes no other weights"
    kind: str
    """``that compares pictures``, ``in int8``."""

    commands: tuple[str, ...]

    def help(self) -> str | None:
        return "\n".join(
            [
                "build one with the other weights in place of these:",
                *(f"  {line}" for line in self.commands),
            ]
        )


class OtherThanStripped(Diagnostic):
    """An engine built with ``--strip-weights`` alone is as fast as any other, because its kernels
    were chosen for these weights: it takes no others. With ``--refittable`` too, it takes any
    weights of the net.
    """

    code = "VGG622"
    TITLE = "the engine only accepts the weights that it was built from, and these are different"
    expected: str
    found: str

    def help(self) -> str | None:
        ours = f"weights whose data has the SHA-256 {self.expected[:12]}…, not {self.found[:12]}…"
        return f"use {ours},\nor build the engine with `--strip-weights --refittable`"


class IncompleteRefit(Diagnostic):
    """After a refit every number in the engine must be from the new weights. TensorRT accepts a
    refit that leaves some old numbers, so vggspec checks, and writes nothing in that case.
    """

    code = "VGG623"
    strange: tuple[str, ...] = ()
    """Arrays that the engine has and the net does not."""

    kept: tuple[str, ...] = ()
    """Arrays that the net has and that cannot be replaced in the engine."""

    missing: tuple[str, ...] = ()
    """Arrays that TensorRT reports as missing."""

    def title(self) -> str:
        number = len(self.strange) + len(self.kept) + len(self.missing)
        return f"the engine would keep {count(number, 'array')} that the new weights do not replace"

    def help(self) -> str | None:
        lines = [f"`{name}` is in the engine and not in the net" for name in self.strange]
        lines += [f"`{name}` cannot be replaced in the engine" for name in self.kept]
        lines += [f"TensorRT reports `{name}` as missing" for name in self.missing]
        more = [f"and {len(lines) - MOST_NAMES} more"] if len(lines) > MOST_NAMES else []
        advice = "no bundle was written; build an engine with the new weights instead"
        return "\n".join([*lines[:MOST_NAMES], *more, advice])


class RefitFailed(Diagnostic):
    """TensorRT loaded the engine and refused the weights; the message quotes TensorRT."""

    code = "VGG624"
    TITLE = "TensorRT could not refit the engine: {reason}"
    HELP = "no bundle was written; build an engine with the new weights instead"
    reason: str
