"""Mistakes found when an engine is loaded and run (VGG63x)."""

from vggspec.base.diagnostic import Diagnostic

MOST_PROFILES = 12


class EngineNotAskedFor(Diagnostic):
    """A TensorRT engine is native code, and loading it runs that code. An engine is loaded only for
    the device ``tensorrt``, never because a bundle contains one.
    """

    code = "VGG630"
    TITLE = "the bundle contains a TensorRT engine: native code, loaded only on request"
    has_reference: bool

    def help(self) -> str | None:
        load = 'load it with `--device tensorrt`, or `device="tensorrt"` in Python'
        return f"{load};\n`--device cpu` runs its fp32 reference" if self.has_reference else load


class NoReference(Diagnostic):
    """A bundle with an engine also contains the same net in fp32 for ONNX Runtime, which runs where
    the engine does not. It may be deleted to save space; then only the engine is left.
    """

    code = "VGG631"
    TITLE = "the bundle has no fp32 reference to run on the device `{device}`"
    HELP = "load its engine with `--device tensorrt`, or compile the bundle again"
    device: str


class StrippedPlan(Diagnostic):
    """The engine was built without its weights, to be small and to be sent separately from them. It
    runs after they have been added.
    """

    code = "VGG632"
    TITLE = "the engine was built without its weights"
    HELP = "add them with `vggspec refit`"


class PlanRefused(Diagnostic):
    """TensorRT refuses to load the plan. A plan runs with the version of TensorRT, the system and
    the kind of GPU that it was built for, unless it was built to be compatible with more.
    """

    code = "VGG633"
    TITLE = "the plan cannot be loaded: {reason}"
    reason: str
    built_by: str
    here: str

    def help(self) -> str | None:
        if self.built_by == self.here:
            return "rebuild it for the GPU of this machine; `vggspec doctor` says how"
        return f"{self.built_by} built it, not {self.here}: rebuild it, or install that version"


class ShapeOutsideProfiles(Diagnostic):
    """An engine takes inputs between the smallest and the largest shape of one of its optimisation
    profiles, which are fixed when the engine is built.
    """

    code = "VGG634"
    shape: tuple[int, ...]
    """Images, rows and columns."""

    ranges: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """The smallest and the largest shape of each profile."""

    def title(self) -> str:
        return f"the engine takes no input of {_shown(self.shape)}"

    def help(self) -> str | None:
        lines = ["it takes images x rows x columns from"]
        lines += [
            f"  {_shown(least)} to {_shown(most)}" for least, most in self.ranges[:MOST_PROFILES]
        ]
        if len(self.ranges) > MOST_PROFILES:
            lines.append(f"  and {len(self.ranges) - MOST_PROFILES} more ranges")
        return "\n".join((*lines, "give other `--scales`, or build for it with `--profile`"))


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
