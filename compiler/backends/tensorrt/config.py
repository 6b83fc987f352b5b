"""The builder's configuration: flags, profiles, compute capabilities, timing cache."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vggspec.base.catalogue.artefacts import NoSuchFile
from vggspec.base.catalogue.engines import BuildFailed, NotAsAsked, NotForFlavour
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import replacing_file
from vggspec.base.regular_files import read_file
from vggspec.base.wording import reason
from vggspec.bundle.engine import RTX_CAPABILITIES
from vggspec.bundle.options import EngineOptions
from vggspec.bundle.profile import BatchShape, Profile
from vggspec.runtime.tensorrt.api import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    ITimingCache,
    Library,
)
from vggspec.runtime.tensorrt.messages import clean, logger

MAX_CACHE_BYTES = 1 << 30  # of a timing cache; usual ones have a few megabytes
MIB = 1 << 20


@dataclass(slots=True)
class Config:
    """A configuration, and what must outlive it: profiles and the timing cache."""

    config: IBuilderConfig
    profiles: list[IOptimizationProfile] = field(default_factory=list)
    timing_cache: ITimingCache = None
    notes: tuple[str, ...] = ()


def configure(
    trt: Library,
    builder: Builder,
    definition: INetworkDefinition,
    options: EngineOptions,
    profiles: Sequence[Profile],
) -> Config:
    """The configuration for the options.

    Raises:
        VggspecError: this TensorRT lacks an option, or refuses a profile.
    """
    config: IBuilderConfig = builder.create_builder_config()
    made = Config(config)
    flags = {
        trt.BuilderFlag.TF32: options.tf32,
        trt.BuilderFlag.VERSION_COMPATIBLE: options.version_compatible,
        trt.BuilderFlag.REFIT: options.refit == "all",
        trt.BuilderFlag.REFIT_IDENTICAL: options.refit == "identical",
        trt.BuilderFlag.STRIP_PLAN: options.strip_weights,
    }
    for flag, is_on in flags.items():
        if is_on:
            config.set_flag(flag)
        else:
            config.clear_flag(flag)  # TF32 is on unless it is cleared
    config.profiling_verbosity = {
        "none": trt.ProfilingVerbosity.NONE,
        "names": trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
        "all": trt.ProfilingVerbosity.DETAILED,
    }[options.layer_info]
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace * MIB)
    if options.flavour == "tensorrt_rtx":
        set_capabilities(trt, config, options.capabilities)
    else:
        if options.level is not None:
            config.builder_optimization_level = options.level
        _make_compatible(trt, config, options)
        load_timing_cache(made, options)
    tensors = [definition.get_input(i) for i in range(definition.num_inputs)]
    for profile in profiles:
        made.profiles.append(add_profile(trt, builder, config, tensors, profile))
    if config.num_optimization_profiles != len(profiles):
        found = config.num_optimization_profiles
        raise _differs("the number of profiles", len(profiles), found)
    return made


def as_tensor(shape: BatchShape, declared: tuple[int, ...], *, is_raw: bool) -> tuple[int, ...]:
    """N, H, W as the input's own axes, with the channels as declared: N, C, H, W, or N, H, W, C for
    raw pixels.
    """
    images, height, width = shape
    if is_raw:
        return images, height, width, declared[3]
    return images, declared[1], height, width


def is_raw(trt: Library, number_type: Any) -> bool:
    """Whether an input of that type takes raw pixels."""
    return int(number_type) == int(trt.DataType.UINT8)


def shapes_of(profile: Profile) -> tuple[BatchShape, BatchShape, BatchShape]:
    """The three shapes in TensorRT's order."""
    return profile.min, profile.opt, profile.max


def add_profile(
    trt: Library,
    builder: Builder,
    config: IBuilderConfig,
    tensors: Sequence[ITensor],
    profile: Profile,
) -> IOptimizationProfile:
    """Add a profile for the inputs ``tensors``, which have the same shapes in it.

    Raises:
        VggspecError: TensorRT refuses it, or takes another one.
    """
    heard, _ = logger(trt)
    shapes: IOptimizationProfile = builder.create_optimization_profile()
    declared, raw = tuple(tensors[0].shape), is_raw(trt, tensors[0].dtype)
    wanted = [as_tensor(shape, declared, is_raw=raw) for shape in shapes_of(profile)]
    try:
        for tensor in tensors:
            shapes.set_shape(tensor.name, *wanted)
        index = config.add_optimization_profile(shapes)
    except ValueError as error:
        raise VggspecError(report(BuildFailed(reason=clean(str(error))))) from error
    if index < 0:
        what = BuildFailed(reason=heard.told(f"it refuses the profile {profile}"))
        raise VggspecError(report(what))
    for tensor in tensors:
        taken = [tuple(shape) for shape in shapes.get_shape(tensor.name)]
        if taken != wanted:
            raise _differs("a profile", wanted, taken)
    return shapes


def set_capabilities(trt: Library, config: IBuilderConfig, capabilities: Sequence[str]) -> None:
    """Name the compute capabilities for RTX; without any, NVIDIA's default holds.

    Raises:
        VggspecError: this release does not build for one of them.
    """
    if not capabilities:
        return
    config.num_compute_capabilities = len(capabilities)
    for i, capability in enumerate(capabilities):
        member = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}", None)
        if member is None or not config.set_compute_capability(member, i):
            what = NotForFlavour(
                option=f"--capability {capability}",
                flavour="this TensorRT-RTX",
                because="it does not build for it",
                instead=f"those that can be named are {', '.join(RTX_CAPABILITIES)}",
            )
            raise VggspecError(report(what))


def _make_compatible(trt: Library, config: IBuilderConfig, options: EngineOptions) -> None:
    if options.hardware == "ampere_plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    elif options.hardware == "same_compute_capability":
        # From 10.9 on.
        level = getattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY", None)
        if level is None:
            what = NotForFlavour(
                option="--hardware-compatible same_compute_capability",
                flavour=f"TensorRT {trt.__version__}",
                because="it came with 10.9",
                instead="upgrade TensorRT, or use ampere_plus",
            )
            raise VggspecError(report(what))
        config.hardware_compatibility_level = level


def load_timing_cache(made: Config, options: EngineOptions) -> None:
    """Use the timing cache of the options. One of another machine is not used, with a note.

    Raises:
        VggspecError: the file cannot be read.
    """
    if options.timing_cache is None:
        return
    config: IBuilderConfig = made.config
    path = Path(options.timing_cache)
    blob = b""
    if path.exists():
        try:
            blob = read_file(path, MAX_CACHE_BYTES)
        except OSError as error:
            what = NoSuchFile(kind="timing cache", reason=reason(error))
            raise VggspecError(report(what, path=str(path))) from error
    elif options.timing_cache_mode == "replay":
        made.notes += (f"the timing cache {path} does not exist: every kernel is timed again",)
    timing_cache: ITimingCache = config.create_timing_cache(blob)
    if timing_cache is None or not config.set_timing_cache(timing_cache, ignore_mismatch=False):
        other = "of another GPU, driver or TensorRT"
        made.notes += (f"the timing cache {path} is {other}: every kernel is timed again",)
        timing_cache = config.create_timing_cache(b"")
        config.set_timing_cache(timing_cache, ignore_mismatch=False)
    made.timing_cache = timing_cache


def save_timing_cache(made: Config, options: EngineOptions) -> None:
    """Write the timing cache with the new timings."""
    if options.timing_cache is None or options.timing_cache_mode == "replay":
        return
    config: IBuilderConfig = made.config
    timing_cache: ITimingCache = config.get_timing_cache()
    if timing_cache is None:
        return
    memory = timing_cache.serialize()
    with replacing_file(Path(options.timing_cache)) as file:
        file.write(memory)


def _differs(what: str, asked: object, found: object) -> VggspecError:
    return VggspecError(report(NotAsAsked(what=what, asked=str(asked), found=str(found))))
