"""Chooses the TensorRT that builds an engine, and checks its limits beforehand."""

from collections.abc import Collection

from vggspec.base.catalogue.engines import BuildFailed, NoGpuToBuild, NotForFlavour
from vggspec.base.diagnostic import Diagnostic, MissingLibraryError, VggspecError, report
from vggspec.base.wording import either
from vggspec.bundle.engine import RTX_CAPABILITIES, RTX_DEFAULT, Flavour
from vggspec.bundle.options import EngineOptions, Precision
from vggspec.runtime.compatibility import rtx_supports as rtx_supports
from vggspec.runtime.machine import Gpu, Machine
from vggspec.runtime.tensorrt import library as seam

#: From this major compute capability on, TensorRT-RTX supports every GPU.
RTX_SINCE = 12


def choose_flavour(requested: Flavour | None, machine: Machine) -> Flavour:
    """The flavour to build with: the given one, else the one that is installed; if both are, the
    classic one where there is a GPU.

    Raises:
        MissingLibraryError: none is installed; one line says what to install.
    """
    if requested is not None:
        return requested
    found = seam.installed()
    if not found:
        raise MissingLibraryError(
            'building an engine needs TensorRT: pip install "vggspec[rtx]", which builds anywhere, '
            'or "vggspec[trt]" on the GPU that will run it'
        )
    return found[0] if len(found) == 1 or machine.gpus else "tensorrt_rtx"


def _major(capability: str) -> int:
    return int(capability.partition(".")[0])


def unsupported(gpu: Gpu) -> str:
    """The message that TensorRT-RTX does not run on a GPU, and on which it does."""
    known = [one for one in RTX_CAPABILITIES if _major(one) < RTX_SINCE]
    return (
        f"TensorRT-RTX does not support this GPU, {gpu}: it supports compute capability "
        f"{', '.join(known)}, {RTX_SINCE}.0 and later"
    )


def serves(options: EngineOptions, gpu: Gpu) -> bool:
    """Whether an engine that is built with these options runs on a GPU."""
    if options.flavour == "tensorrt":
        return True
    if options.capabilities:
        return gpu.capability in options.capabilities
    return gpu.capability in RTX_DEFAULT or _major(gpu.capability) >= RTX_SINCE


def check_options(
    options: EngineOptions, machine: Machine, precisions: Collection[Precision]
) -> tuple[str, ...]:
    """Refuse at once what cannot be built here; return in words what has no effect.

    Raises:
        VggspecError: an option is the other flavour's, or needs a GPU that is not here.
    """
    assert options.flavour is not None
    if options.flavour == "tensorrt":
        _check_classic(options, machine)
        return ()
    return _check_rtx(options, machine, precisions)


def _check_classic(options: EngineOptions, machine: Machine) -> None:
    if options.capabilities:
        raise _not_for(
            "--capability",
            seam.FLAVOURS["tensorrt"].title,
            "it builds for the GPU that it finds",
            "build on that GPU, or use `--trt-flavor tensorrt_rtx`",
        )
    if not machine.gpus:
        raise _refused(NoGpuToBuild(option=None))


def _check_rtx(
    options: EngineOptions, machine: Machine, precisions: Collection[Precision]
) -> tuple[str, ...]:
    title = seam.FLAVOURS["tensorrt_rtx"].title
    if "bf16" in precisions and "7.5" in options.capabilities:
        raise _not_for(
            "--precision bf16",
            "`--capability 7.5`",
            "that GPU has no bf16 arithmetic",
            "use `--precision fp16`, or leave that capability out",
        )
    if options.hardware != "none":
        raise _not_for(
            "--hardware-compatible",
            title,
            "its engines run on every capability they were built for",
            "name capabilities with `--capability`",
        )
    if options.version_compatible:
        raise _not_for(
            "--version-compatible",
            title,
            "its engines run on the release that built them",
            "build again for each release; it takes seconds and no GPU",
        )
    needs_gpu = {"--strip-weights": options.strip_weights, "--refittable": options.refittable}
    for option, is_given in needs_gpu.items():
        if is_given and not machine.gpus:
            raise _refused(NoGpuToBuild(option=option))
    if machine.gpus and not options.capabilities and not rtx_supports(machine.gpus[0]):
        what = BuildFailed(
            reason=unsupported(machine.gpus[0]),
            instead="build with `--trt-flavor tensorrt`, which supports it, or for another machine "
            f"with {either([f'`--capability {one}`' for one in RTX_DEFAULT])}",
        )
        raise _refused(what)
    notes = []
    if options.timing_cache is not None:
        notes.append(f"{title} measures nothing while it builds: `--timing-cache` is not used")
    if options.level is not None:
        notes.append(f"{title} chooses kernels when the engine runs: `--opt-level` has no effect")
    return tuple(notes)


def _not_for(option: str, flavour: str, because: str, instead: str) -> VggspecError:
    return _refused(NotForFlavour(option=option, flavour=flavour, because=because, instead=instead))


def _refused(what: Diagnostic) -> VggspecError:
    return VggspecError(report(what))
