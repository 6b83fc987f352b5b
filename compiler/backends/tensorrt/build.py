"""A TensorRT engine from an ONNX graph and its weights: parse, check, build, check again.

The same code drives both flavours (``vggspec.runtime.tensorrt.seam``). Where TensorRT takes weights
from memory (10.13 on, and RTX), it is given them rounded already; older releases read the graph's
own casts.

Sources: the TensorRT Python API reference, 10.0 to 11.4; TensorRT-RTX 1.7.
"""

import hashlib
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import NoSuchFile
from vggspec.base.catalogue.engines import (
    BuildFailed,
    NoGpuToBuild,
    NotAsAsked,
    NotForFlavour,
    ParserRefused,
)
from vggspec.base.diagnostic import Diagnostic, MissingLibraryError, VggspecError, report
from vggspec.base.files import replacing_file
from vggspec.base.opening import read_file
from vggspec.base.wording import foreign, reason
from vggspec.bundle.engine import RTX_CAPABILITIES, RTX_DEFAULT, Engine, Flavour, Hardware, Refit
from vggspec.bundle.manifest import Precision
from vggspec.bundle.profile import Profile
from vggspec.compiler.ir import IMAGE, Network
from vggspec.runtime.machine import Machine, cuda_of, platform_name, this_machine
from vggspec.runtime.tensorrt import seam

#: TensorRT's severities.
ERROR, WARNING, INFO, VERBOSE = 1, 2, 3, 4

#: What an inspector calls them, in any of its releases.
INSPECTED: dict[Precision, tuple[str, ...]] = {
    "fp16": ("half", "fp16"),
    "bf16": ("bf16", "bfloat16"),
}

MAX_CACHE_BYTES = 1 << 30  # of a timing cache; usual ones have a few megabytes
POLL = 0.05  # seconds between two looks at whether the user wants to stop
RECENT = 20  # errors kept for the message


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the user chooses about the build."""

    flavour: Flavour
    profiles: tuple[Profile, ...]
    tf32: bool = False
    level: int | None = None
    """Optimisation level, 0 to 5; None is TensorRT's own default, 3."""

    workspace: int | None = None
    """Bytes of scratch memory that a kernel may ask for; None is all there is."""

    threads: int | None = None
    """That the builder may use; None is one a processor. With several, what they finish first may
    be numbered first, so that a few bytes of the plan differ from build to build."""

    capabilities: tuple[str, ...] = ()
    """For RTX: the compute capabilities to build for; none is NVIDIA's default."""

    hardware: Hardware = "none"
    is_version_compatible: bool = False
    refit: Refit = "none"
    is_stripped: bool = False
    timing_cache: Path | None = None
    timing_cache_mode: Literal["record", "replay"] = "record"
    details: Literal["none", "names", "all"] = "all"
    """What the plan says of its layers to an inspector."""


class Watcher(Protocol):
    """Hears how a build goes on. Called from TensorRT's threads."""

    def share_done(self, phase: str, share: float) -> None:
        """``share`` of the whole, 0 to 1, is done; ``phase`` is what goes on now."""

    def heard(self, severity: int, text: str) -> None:
        """TensorRT said something."""


class Unheard:
    """A watcher that does nothing."""

    def share_done(self, phase: str, share: float) -> None:
        """Nobody looks."""

    def heard(self, severity: int, text: str) -> None:
        """Nobody listens."""


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A layer as TensorRT has it."""

    name: str
    op: str
    precision: str
    output: tuple[int, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gave, besides the plan."""

    engine: Engine
    plan_sha256: str
    layers: tuple[LayerRecord, ...]
    layers_from: Literal["network", "engine"]
    notes: tuple[str, ...]


def choose_flavour(wanted: Flavour | None, machine: Machine) -> Flavour:
    """The flavour to build with: the one asked for, else what is installed; of both the classic one
    where there is a GPU.

    Raises:
        MissingLibraryError: none is; one line says what to install.
    """
    if wanted is not None:
        return wanted
    found = seam.installed()
    if not found:
        raise MissingLibraryError(
            'building an engine needs TensorRT: pip install "vggspec[rtx]", which builds anywhere, '
            'or "vggspec[trt]" on the GPU that will run it'
        )
    return found[0] if len(found) == 1 or machine.gpus else "tensorrt_rtx"


def check_options(
    options: EngineOptions, machine: Machine, precisions: Collection[Precision]
) -> tuple[str, ...]:
    """Refuse at once what cannot be built here; what has no effect is returned in words.

    Raises:
        VggspecError: an option is the other flavour's, or asks for a GPU that is not here.
    """
    found = machine.gpus
    title = seam.FLAVOURS[options.flavour].title

    def refuse(what: Diagnostic) -> VggspecError:
        return VggspecError(report(what))

    if options.flavour == "tensorrt":
        if options.capabilities:
            because = "it builds for the GPU that it finds"
            instead = "build on that GPU, or take `--trt-flavor tensorrt_rtx`"
            raise refuse(
                NotForFlavour(
                    option="--capability", flavour=title, because=because, instead=instead
                )
            )
        if not found:
            raise refuse(NoGpuToBuild(option=None))
        return ()
    if "bf16" in precisions and "7.5" in options.capabilities:
        because = "that GPU has no bf16 arithmetic"
        instead = "take `--precision fp16`, or leave that capability out"
        raise refuse(
            NotForFlavour(
                option="--precision bf16",
                flavour="`--capability 7.5`",
                because=because,
                instead=instead,
            )
        )
    if options.hardware != "none":
        because = "its engines run on every capability they were built for"
        raise refuse(
            NotForFlavour(
                option="--hardware-compatible",
                flavour=title,
                because=because,
                instead="name capabilities by `--capability`",
            )
        )
    if options.is_version_compatible:
        raise refuse(
            NotForFlavour(
                option="--version-compatible",
                flavour=title,
                because="its engines run on the release that built them",
                instead="build again for each release; it takes seconds and no GPU",
            )
        )
    for option, is_given in (
        ("--strip-weights", options.is_stripped),
        ("--refittable", options.refit != "none"),
    ):
        if is_given and not found:
            raise refuse(NoGpuToBuild(option=option))
    notes = []
    if options.timing_cache is not None:
        notes.append(f"{title} times nothing while it builds: `--timing-cache` is left alone")
    if options.level is not None:
        notes.append(f"{title} chooses kernels when the engine runs: `--opt-level` has no effect")
    return tuple(notes)


def build(
    model: bytes,
    arrays: Mapping[str, NDArray[Any]],
    network: Network,
    types: Mapping[str, Precision],
    options: EngineOptions,
    name: str,
    plan: Path,
    watcher: Watcher,
    write_graph: Callable[[], Path],
) -> Built:
    """Build an engine and write its plan.

    ``model`` declares its weights (``emit(weights_as="declared")``), ``arrays`` are they;
    ``write_graph`` writes one that points at its weights and casts them, for a TensorRT that takes
    no weights from memory. The builder works in a thread of its own, so that Ctrl-C stops it at
    its next step.

    Raises:
        VggspecError: TensorRT refuses the graph, an option or the build, or made something else
            than what was asked for.
        MissingLibraryError: that flavour is not installed.
    """
    machine = this_machine()
    notes = check_options(options, machine, set(types.values()))
    trt = seam.load(options.flavour, "building an engine")
    work = _Work(trt, options, watcher)
    network_definition = work.parse(model, arrays, name, write_graph)
    work.check_network(network_definition, network, types)
    layers = _layers(trt, network_definition)
    config = work.configure(network_definition)
    with open(plan, "wb") as file:
        plan_sha256 = work.run(network_definition, config, file)
    engine = _record(trt, options, machine, name)
    layers_from: Literal["network", "engine"] = "network"
    if machine.gpus:
        inspected = work.check_engine(plan, network, set(types.values()))
        if inspected:
            layers, layers_from = inspected, "engine"
    return Built(engine, plan_sha256, layers, layers_from, notes + work.notes)


class _Work:
    """One build: the objects of TensorRT that must outlive each other, and what was said."""

    def __init__(self, trt: Any, options: EngineOptions, watcher: Watcher) -> None:
        self.trt = trt
        self.options = options
        self.watcher = watcher
        self.notes: tuple[str, ...] = ()
        self.errors: list[str] = []
        self.logger = seam.make_logger(trt, self._hear)
        self.builder = trt.Builder(self.logger)
        self.builder.max_threads = options.threads or os.cpu_count() or 1
        self._kept: list[Any] = []

    def _hear(self, severity: int, text: str) -> None:
        if severity <= ERROR:
            self.errors = [*self.errors, text][-RECENT:]
        self.watcher.heard(severity, text)

    def _said(self, otherwise: str) -> str:
        """The first thing that went wrong, in TensorRT's words."""
        return clean(self.errors[0]) if self.errors else otherwise

    def parse(
        self,
        model: bytes,
        arrays: Mapping[str, NDArray[Any]],
        name: str,
        write_graph: Callable[[], Path],
    ) -> Any:
        """The network definition of the graph."""
        trt = self.trt
        strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network_definition = self.builder.create_network(strongly_typed)
        network_definition.name = name
        onnx_parser = trt.OnnxParser(network_definition, self.logger)
        if hasattr(onnx_parser, "load_initializer"):
            is_read = onnx_parser.load_model_proto(model)
            for weight, array in arrays.items():
                is_read = is_read and onnx_parser.load_initializer(
                    weight, array.ctypes.data, array.nbytes
                )
            is_read = is_read and onnx_parser.parse_model_proto()
        else:
            is_read = onnx_parser.parse_from_file(str(write_graph()))
        if not is_read:
            raise VggspecError(report(self._refusal(onnx_parser)))
        # The network's weights lie in `arrays`, and the parser owns what it made of them.
        self._kept += [onnx_parser, arrays, network_definition]
        return network_definition

    def _refusal(self, onnx_parser: Any) -> ParserRefused:
        if onnx_parser.num_errors == 0:
            return ParserRefused(layer="", op="", reason=self._said("it gives no reason"))
        error_ = onnx_parser.get_error(0)
        return ParserRefused(
            layer=error_.node_name(), op=error_.node_operator(), reason=clean(error_.desc())
        )

    def check_network(
        self, network_definition: Any, network: Network, types: Mapping[str, Precision]
    ) -> None:
        """Hold the parsed network against the one that was compiled.

        A strongly typed network is built as it stands, so what is checked here needs no GPU.
        """
        trt = self.trt
        names = _precisions(trt)
        found: dict[str, str] = {}
        for i in range(network_definition.num_layers):
            layer_ = network_definition.get_layer(i)
            tensor_ = layer_.get_output(0)
            found[layer_.name] = names.get(int(tensor_.dtype), str(tensor_.dtype))
        for layer in network.layers:
            # Ops without arithmetic of their own may have vanished in the parser.
            if layer.name not in found and not layer.params:
                continue
            asked, made = types[layer.name], found.get(layer.name, "nothing")
            if asked != made:
                what = NotAsAsked(what=f"layer `{layer.name}`", asked=asked, found=made)
                raise VggspecError(report(what))
        inputs = network_definition.num_inputs
        outputs = {
            network_definition.get_output(i).name: network_definition.get_output(i)
            for i in range(network_definition.num_outputs)
        }
        if inputs != 1 or network_definition.get_input(0).name != IMAGE:
            raise VggspecError(
                report(NotAsAsked(what="the input", asked=IMAGE, found=f"{inputs} others"))
            )
        for output in network.outputs:
            tensor_ = outputs.get(output.name)
            if tensor_ is None or int(tensor_.dtype) != int(trt.DataType.FLOAT):
                made = "nothing" if tensor_ is None else names.get(int(tensor_.dtype), "another")
                what = NotAsAsked(what=f"output `{output.name}`", asked="fp32", found=made)
                raise VggspecError(report(what))

    def configure(self, network_definition: Any) -> Any:
        """The builder's configuration."""
        trt, options = self.trt, self.options
        config = self.builder.create_builder_config()
        flags = {
            trt.BuilderFlag.TF32: options.tf32,
            trt.BuilderFlag.VERSION_COMPATIBLE: options.is_version_compatible,
            trt.BuilderFlag.REFIT: options.refit == "all",
            trt.BuilderFlag.REFIT_IDENTICAL: options.refit == "identical",
            trt.BuilderFlag.STRIP_PLAN: options.is_stripped,
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
        }[options.details]
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
        if options.flavour == "tensorrt_rtx":
            self._target(config)
        else:
            if options.level is not None:
                config.builder_optimization_level = options.level
            self._make_compatible(config)
            self._load_timing_cache(config)
        tensor_ = network_definition.get_input(0)
        for profile in options.profiles:
            self._add_profile(config, tensor_, profile)
        if config.num_optimization_profiles != len(options.profiles):
            what = NotAsAsked(
                what="the number of profiles",
                asked=str(len(options.profiles)),
                found=str(config.num_optimization_profiles),
            )
            raise VggspecError(report(what))
        return config

    def _is_raw(self, number_type: Any) -> bool:
        return int(number_type) == int(self.trt.DataType.UINT8)

    def _add_profile(self, config: Any, tensor_: Any, profile: Profile) -> None:
        shapes = self.builder.create_optimization_profile()
        declared, is_raw = tuple(tensor_.shape), self._is_raw(tensor_.dtype)
        wanted = [as_tensor(shape, declared, is_raw=is_raw) for shape in _three(profile)]
        try:
            shapes.set_shape(tensor_.name, *wanted)
            index = config.add_optimization_profile(shapes)
        except ValueError as error:
            raise VggspecError(report(BuildFailed(reason=clean(str(error))))) from error
        if index < 0:
            what = BuildFailed(reason=self._said(f"it refuses the profile {profile}"))
            raise VggspecError(report(what))
        taken = [tuple(shape) for shape in shapes.get_shape(tensor_.name)]
        if taken != wanted:
            raise VggspecError(
                report(NotAsAsked(what="a profile", asked=str(wanted), found=str(taken)))
            )
        self._kept.append(shapes)

    def _target(self, config: Any) -> None:
        """Name the compute capabilities; without any, NVIDIA's default stands."""
        trt, capabilities = self.trt, self.options.capabilities
        if not capabilities:
            return
        config.num_compute_capabilities = len(capabilities)
        for i, capability in enumerate(capabilities):
            member = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}", None)
            if member is None or not config.set_compute_capability(member, i):
                raise VggspecError(
                    report(
                        NotForFlavour(
                            option=f"--capability {capability}",
                            flavour="this TensorRT-RTX",
                            because="it does not build for it",
                            instead=f"those that can be named are {', '.join(RTX_CAPABILITIES)}",
                        )
                    )
                )

    def _make_compatible(self, config: Any) -> None:
        trt, hardware = self.trt, self.options.hardware
        if hardware == "ampere_plus":
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        elif hardware == "same_compute_capability":
            # From 10.9 on.
            level = getattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY", None)
            if level is None:
                what = NotForFlavour(
                    option="--hardware-compatible same_compute_capability",
                    flavour=f"TensorRT {trt.__version__}",
                    because="it came with 10.9",
                    instead="upgrade TensorRT, or take ampere_plus",
                )
                raise VggspecError(report(what))
            config.hardware_compatibility_level = level

    def _load_timing_cache(self, config: Any) -> None:
        """Use a timing cache; a foreign one is left alone and said so, never fatal."""
        path = self.options.timing_cache
        if path is None:
            return
        blob = b""
        if path.exists():
            try:
                blob = read_file(path, MAX_CACHE_BYTES)
            except OSError as error:
                what = NoSuchFile(kind="timing cache", reason=reason(error))
                raise VggspecError(report(what, path=str(path))) from error
        elif self.options.timing_cache_mode == "replay":
            self.notes += (f"the timing cache {path} is not there: every kernel is timed anew",)
        timing_cache = config.create_timing_cache(blob)
        if timing_cache is None or not config.set_timing_cache(timing_cache, ignore_mismatch=False):
            other = "of another GPU, driver or TensorRT"
            self.notes += (f"the timing cache {path} is {other}: every kernel is timed anew",)
            timing_cache = config.create_timing_cache(b"")
            config.set_timing_cache(timing_cache, ignore_mismatch=False)
        self._kept.append(timing_cache)

    def _save_timing_cache(self, config: Any) -> None:
        path = self.options.timing_cache
        if path is None or self.options.timing_cache_mode == "replay":
            return
        timing_cache = config.get_timing_cache()
        if timing_cache is None:
            return
        memory = timing_cache.serialize()
        with replacing_file(path) as file:
            file.write(memory)

    def run(self, network_definition: Any, config: Any, plan: IO[bytes]) -> str:
        """Build and write the plan; its SHA-256."""
        monitor = make_monitor(self.trt, self.watcher)
        config.progress_monitor = monitor
        outcome = _Outcome()
        arguments = (network_definition, config, plan, outcome)
        thread = threading.Thread(target=self._build, args=arguments, name="trt-builder")
        signals = _hold_signals()  # `start`, interrupted, leaves a thread that nobody knows of
        try:
            try:
                thread.start()
            finally:
                _release_signals(signals)
            # Not by `join`: interrupted, it takes the thread for ended (until Python 3.13).
            while not outcome.is_over.wait(POLL):
                pass
        except BaseException:
            monitor.stop()
            if thread.ident is not None:
                outcome.is_over.wait()
            raise
        thread.join()
        if outcome.error is not None:
            raise outcome.error
        if not outcome.is_built:
            raise VggspecError(report(BuildFailed(reason=self._said("it gives no reason"))))
        if self.options.flavour == "tensorrt":
            self._save_timing_cache(config)
        return str(outcome.sha256.hexdigest())

    def check_engine(
        self, plan: Path, network: Network, precisions: set[Precision]
    ) -> tuple[LayerRecord, ...]:
        """Load the engine, where there is a GPU to load it on, and hold it against what was asked.

        The layers as the engine has them, where it tells.
        """
        trt, options = self.trt, self.options

        def differs(what: str, asked: object, found: object) -> VggspecError:
            diagnostic = NotAsAsked(what=what, asked=str(asked), found=str(found))
            return VggspecError(report(diagnostic))

        engine_runtime = trt.Runtime(self.logger)
        if options.is_version_compatible:
            engine_runtime.engine_host_code_allowed = True  # it was built here, just now
        self.errors = []
        plan_engine = engine_runtime.deserialize_cuda_engine(plan.read_bytes())
        if plan_engine is None:
            said = self._said("it gives no reason")
            what = BuildFailed(reason=f"the engine does not load where it was built: {said}")
            raise VggspecError(report(what))
        if plan_engine.num_optimization_profiles != len(options.profiles):
            found = plan_engine.num_optimization_profiles
            raise differs("the number of profiles", len(options.profiles), found)
        declared = tuple(plan_engine.get_tensor_shape(IMAGE))
        is_raw = self._is_raw(plan_engine.get_tensor_dtype(IMAGE))
        for i, profile in enumerate(options.profiles):
            wanted = [as_tensor(shape, declared, is_raw=is_raw) for shape in _three(profile)]
            made = [tuple(shape) for shape in plan_engine.get_tensor_profile_shape(IMAGE, i)]
            if made != wanted:
                raise differs(f"profile {i}", wanted, made)
        for name in (IMAGE, *(output.name for output in network.outputs)):
            if plan_engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
                raise differs(f"the format of `{name}`", "linear", "another")
        if bool(plan_engine.refittable) != (options.refit != "none" or options.is_stripped):
            raise differs("whether weights can be replaced", options.refit, "otherwise")
        inspector = plan_engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        types = number_types_said(text)
        for precision, words in INSPECTED.items():
            is_named = any(word in types for word in words)
            if is_named and precision not in precisions:
                raise differs(f"layers in {precision}", "none", "some")
            if types and not is_named and precision in precisions:
                # The network that was built is typed and was checked: fused kernels hide it.
                self.notes += (f"the engine's inspector names no kernel in {precision}",)
        return inspected_layers(text)

    def _build(
        self, network_definition: Any, config: Any, plan: IO[bytes], outcome: "_Outcome"
    ) -> None:
        builder = self.builder
        try:
            if hasattr(builder, "build_serialized_network_to_stream"):
                # From 10.13 on: the plan goes to the file and is never whole in memory.
                writer = make_writer(self.trt, plan, outcome.sha256)
                is_built = builder.build_serialized_network_to_stream(
                    network_definition, config, writer
                )
                outcome.error = writer.error
                outcome.is_built = bool(is_built)
            else:
                memory = builder.build_serialized_network(network_definition, config)
                if memory is not None:
                    plan.write(memory)
                    outcome.sha256.update(memory)
                    outcome.is_built = True
        except BaseException as error:  # noqa: BLE001 (raised again in the thread that waits)
            outcome.error = error
        finally:
            outcome.is_over.set()


def _hold_signals() -> set[Any] | None:
    """Let Ctrl-C wait, where the system can; what ``_release_signals`` takes."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _release_signals(before: set[Any] | None) -> None:
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(slots=True)
class _Outcome:
    """What the builder's thread leaves behind."""

    is_built: bool = False
    error: BaseException | None = None
    sha256: Any = field(default_factory=hashlib.sha256)
    is_over: threading.Event = field(default_factory=threading.Event)


def make_writer(trt: Any, file: IO[bytes], sha256: Any) -> Any:
    """A stream writer for ``build_serialized_network_to_stream``, which hashes what it writes.

    A refusal of the system, for lack of space for instance, is kept in ``error``: an exception
    must not cross TensorRT.
    """

    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)
            self.error: OSError | None = None

        def write(self, data: Any) -> int:
            if self.error is not None:
                return 0
            hashing = threading.Thread(target=sha256.update, args=(data,))
            hashing.start()
            try:
                return file.write(data)
            except OSError as error:
                self.error = error
                return 0
            finally:
                hashing.join()  # TensorRT takes the data back

    return Writer()


def make_monitor(trt: Any, watcher: Watcher) -> Any:
    """A progress monitor that turns TensorRT's nested phases into one share, and can stop it."""
    shares = Shares()
    lock = threading.Lock()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.is_stopped = False

        def stop(self) -> None:
            self.is_stopped = True

        def phase_start(self, phase: str, parent: str | None, num_steps: int) -> None:
            with lock:
                shares.start(phase, parent, num_steps)
                watcher.share_done(phase, shares.done)

        def phase_finish(self, phase: str) -> None:
            with lock:
                shares.finish(phase)
                watcher.share_done(phase, shares.done)

        def step_complete(self, phase: str, step: int) -> bool:
            with lock:
                shares.step(phase, step)
                watcher.share_done(phase, shares.done)
            return not self.is_stopped

    return Monitor()


@dataclass(slots=True)
class _Phase:
    parent: str | None
    num_steps: int
    num_done: int = 0


@dataclass(slots=True)
class Shares:
    """How much of nested phases is done: a phase counts as a step of its parent, in parts."""

    _phases: dict[str, _Phase] = field(default_factory=dict)
    _most: float = 0.0

    def start(self, phase: str, parent: str | None, num_steps: int) -> None:
        """A phase begins."""
        self._phases[phase] = _Phase(parent, max(num_steps, 1))

    def step(self, phase: str, step: int) -> None:
        """A step, counted from 0, is complete."""
        if phase in self._phases:
            self._phases[phase].num_done = step + 1

    def finish(self, phase: str) -> None:
        """A phase is over, whatever it had announced."""
        self._phases.pop(phase, None)

    @property
    def done(self) -> float:
        """The share of the whole, 0 to 1; it never goes back."""
        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        self._most = max([self._most, *(self._share(name) for name in roots)])
        return min(self._most, 1.0)

    def _share(self, name: str) -> float:
        phase = self._phases[name]
        children = [child for child, each in self._phases.items() if each.parent == name]
        within = max([0.0, *(self._share(child) for child in children)])
        return min(phase.num_done + within, phase.num_steps) / phase.num_steps


def clean(text: str) -> str:
    """TensorRT's message without its places and codes, on one line."""
    text = " ".join(text.split())
    if "Plugin not found" in text:
        return "it has no such operator"
    from_cuda = re.search(r"cudaError \d+: ([^)]+)\)", text)
    if from_cuda:
        return from_cuda[1]
    coded = re.search(r"Error Code \d+: [^(]*\((.*)\)", text)
    text = re.split(r" In \w+ at /", coded[1] if coded else text)[0]
    return foreign(re.sub(r"\[[\w.]+:\d+: \w+\] ", "", text))


def _three(profile: Profile) -> tuple[tuple[int, int, int], ...]:
    return profile.min, profile.opt, profile.max


def as_tensor(
    shape: tuple[int, int, int], declared: tuple[int, ...], *, is_raw: bool
) -> tuple[int, ...]:
    """N, H, W as the input's own axes, the channels as it is declared: N, C, H, W, or N, H, W, C of
    raw pixels.
    """
    images, height, width = shape
    if is_raw:
        return images, height, width, declared[3]
    return images, declared[1], height, width


def _precisions(trt: Any) -> dict[int, Precision]:
    """Our names of TensorRT's number types."""
    return {
        int(trt.DataType.FLOAT): "fp32",
        int(trt.DataType.HALF): "fp16",
        int(trt.DataType.BF16): "bf16",
    }


def _layers(trt: Any, network_definition: Any) -> tuple[LayerRecord, ...]:
    """The layers of the parsed network."""
    names = _precisions(trt)
    records = []
    for i in range(network_definition.num_layers):
        layer_ = network_definition.get_layer(i)
        tensor_ = layer_.get_output(0)
        other = str(tensor_.dtype).rpartition(".")[2].lower()
        inputs = (layer_.get_input(k) for k in range(layer_.num_inputs))
        records.append(
            LayerRecord(
                name=layer_.name,
                op=str(layer_.type).rpartition(".")[2].lower(),
                precision=names.get(int(tensor_.dtype), other),
                output=tuple(tensor_.shape),
                reads=tuple(each.name for each in inputs if each is not None),
            )
        )
    return tuple(records)


def inspected_layers(text: str) -> tuple[LayerRecord, ...]:
    """The layers of an inspector's JSON, where it has their details; releases word them
    differently, so what is missing is left empty.
    """
    records = []
    for layer in _inspected(text):
        outputs = [each for each in layer.get("Outputs", []) if isinstance(each, dict)]
        inputs = [each for each in layer.get("Inputs", []) if isinstance(each, dict)]
        first = outputs[0] if outputs else {}
        records.append(
            LayerRecord(
                name=str(layer.get("Name", "")),
                op=str(layer.get("LayerType", "")),
                precision=str(first.get("Format/Datatype", "")),
                output=tuple(int(n) for n in first.get("Dimensions", [])),
                reads=tuple(str(each.get("Name", "")) for each in inputs),
            )
        )
    return tuple(records)


def number_types_said(text: str) -> str:
    """All formats and number types that an inspector's JSON names, in lower case."""
    tensors = [
        each
        for layer in _inspected(text)
        for each in (*layer.get("Inputs", []), *layer.get("Outputs", []))
        if isinstance(each, dict)
    ]
    return " ".join(str(each.get("Format/Datatype", "")) for each in tensors).lower()


def _inspected(text: str) -> list[dict[str, Any]]:
    try:
        layers = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [layer for layer in layers if isinstance(layer, dict)]


def _record(trt: Any, options: EngineOptions, machine: Machine, name: str) -> Engine:
    is_rtx = options.flavour == "tensorrt_rtx"
    gpu = machine.gpus[0] if machine.gpus else None
    if is_rtx:
        capabilities = options.capabilities or RTX_DEFAULT
    else:
        capabilities = (gpu.capability,) if gpu is not None else ()
    return Engine(
        flavour=options.flavour,
        version=str(trt.__version__),
        cuda=cuda_of(options.flavour),
        platform=platform_name(),
        gpu=None if is_rtx or gpu is None else gpu.name,
        capabilities=capabilities,
        is_open_ended=is_rtx and not options.capabilities,
        profiles=options.profiles,
        tf32=options.tf32,
        hardware=options.hardware,
        is_version_compatible=options.is_version_compatible,
        refit=options.refit,
        is_stripped=options.is_stripped,
        level=3 if options.level is None else options.level,
        name=name,
    )
