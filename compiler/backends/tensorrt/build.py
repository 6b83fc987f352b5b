"""A TensorRT engine from an ONNX graph and its weights: parse, check, build, check again.

The same code drives both flavours (``vggspec.runtime.tensorrt.library``). Where TensorRT takes
weights from memory (10.13 on, and RTX), it is given them rounded already; older releases read the
graph's own casts.

Sources: the TensorRT Python API reference, 10.0 to 11.4; TensorRT-RTX 1.7.
"""

import hashlib
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from vggspec.base.catalogue.engines import BuildFailed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.processors import processors
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.bundle.engine import RTX_DEFAULT, Engine
from vggspec.bundle.options import EngineOptions, Precision
from vggspec.bundle.profile import Profile
from vggspec.compiler.backends.tensorrt.check import check_engine
from vggspec.compiler.backends.tensorrt.config import Config, configure, save_timing_cache
from vggspec.compiler.backends.tensorrt.flavours import check_options, serves
from vggspec.compiler.backends.tensorrt.network import (
    Arrays,
    LayerRecord,
    Ports,
    check_network,
    layers,
    parse,
)
from vggspec.compiler.backends.tensorrt.progress import make_monitor
from vggspec.compiler.ir import Network
from vggspec.runtime.machine import Machine, cuda_of, platform_name, this_machine
from vggspec.runtime.tensorrt import library as seam
from vggspec.runtime.tensorrt.api import Builder, IBuilderConfig, INetworkDefinition, Library
from vggspec.runtime.tensorrt.messages import logger

POLL = 0.05  # seconds between two checks for an interruption
PERCENT = 100


@dataclass(frozen=True, slots=True)
class Built:
    """The result of a build, apart from the plan."""

    engine: Engine
    plan_sha256: str
    layers: tuple[LayerRecord, ...]
    layers_from: Literal["network", "engine"]
    notes: tuple[str, ...]


def build(
    model: bytes,
    arrays: Arrays,
    network: Network,
    types: Mapping[str, Precision],
    options: EngineOptions,
    profiles: Sequence[Profile],
    name: str,
    plan: Path,
    write_graph: Callable[[], Path],
    watch: Watcher = SILENT,
    ports: Ports | None = None,
) -> Built:
    """Build an engine and write its plan.

    ``model`` declares its weights (``emit(weights_as="declared")``), which are ``arrays``;
    ``write_graph`` writes one that points at its weights and casts them, for a TensorRT that takes
    no weights from memory. The builder works in a thread of its own, so that Ctrl-C stops it at
    its next step.

    Raises:
        VggspecError: TensorRT refuses the graph, an option or the build, or built something else
            than what was asked for.
        MissingLibraryError: that flavour is not installed.
    """
    assert options.flavour is not None
    machine = this_machine()
    notes = list(check_options(options, machine, set(types.values())))
    trt: Library = seam.load(options.flavour, "building an engine")
    heard, its_logger = logger(trt)
    heard.forget()
    with heard.listening(watch.log):
        builder: Builder = trt.Builder(its_logger)
        builder.max_threads = options.threads or processors()
        parsed = parse(trt, builder, model, arrays, name, write_graph)
        check_network(trt, parsed.network, network, types, ports)
        config = configure(trt, builder, parsed.network, options, profiles)
        notes += config.notes
        with open(plan, "wb") as file:
            plan_sha256 = _run(trt, builder, parsed.network, config, file, watch)
        if options.flavour == "tensorrt":
            save_timing_cache(config, options)
        found, layers_from = layers(trt, parsed.network), "network"
        if machine.gpus and serves(options, machine.gpus[0]):
            precisions = set(types.values())
            data = plan.read_bytes()
            checked = check_engine(
                trt, data, ports or Ports.of(network), options, profiles, precisions
            )
            notes += checked.notes
            if checked.layers:
                found, layers_from = checked.layers, "engine"
        elif machine.gpus:
            asked = ", ".join(options.capabilities or RTX_DEFAULT)
            notes.append(
                f"the engine was not loaded and checked here: it is for compute capability {asked}"
                f", and this GPU is {machine.gpus[0]}"
            )
    engine = _describe(trt, options, profiles, machine, name)
    return Built(
        engine, plan_sha256, found, "engine" if layers_from == "engine" else "network", tuple(notes)
    )


def _run(
    trt: Library,
    builder: Builder,
    definition: INetworkDefinition,
    made: Config,
    plan: IO[bytes],
    watch: Watcher,
) -> str:
    """Build and write the plan; its SHA-256."""
    heard, _ = logger(trt)

    def told(phase: str, share: float) -> None:
        done = int(share * PERCENT)
        watch.progress(
            Progress(doing="building", done=done, total=PERCENT, unit="%", details=(phase.lower(),))
        )

    config: IBuilderConfig = made.config
    monitor = make_monitor(trt, told)
    config.progress_monitor = monitor
    outcome = _Outcome()
    arguments = (trt, builder, definition, config, plan, outcome)
    thread = threading.Thread(target=_build, args=arguments, name="trt-builder")
    signals = _hold_signals()  # an interrupted `start` would leave an unknown thread
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
    if monitor.error is not None:
        raise monitor.error
    if outcome.error is not None:
        raise outcome.error
    if not outcome.is_built:
        raise VggspecError(report(BuildFailed(reason=heard.told("it gives no reason"))))
    return str(outcome.sha256.hexdigest())


@dataclass(slots=True)
class _Outcome:
    """The result of the builder's thread."""

    is_built: bool = False
    error: BaseException | None = None
    sha256: Any = field(default_factory=hashlib.sha256)
    is_over: threading.Event = field(default_factory=threading.Event)


def _build(
    trt: Library,
    builder: Builder,
    definition: INetworkDefinition,
    config: IBuilderConfig,
    plan: IO[bytes],
    outcome: _Outcome,
) -> None:
    try:
        if hasattr(builder, "build_serialized_network_to_stream"):
            # From 10.13 on: the plan goes to the file and is never whole in memory.
            writer = make_writer(trt, plan, outcome.sha256)
            is_built = builder.build_serialized_network_to_stream(definition, config, writer)
            outcome.error = writer.error
            outcome.is_built = bool(is_built)
        else:
            memory = builder.build_serialized_network(definition, config)
            if memory is not None:
                plan.write(memory)
                outcome.sha256.update(memory)
                outcome.is_built = True
    except BaseException as error:  # noqa: BLE001 (raised again in the thread that waits)
        outcome.error = error
    finally:
        outcome.is_over.set()


def _hold_signals() -> set[Any] | None:
    """Delay Ctrl-C, where the system can; returns what ``_release_signals`` takes."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _release_signals(before: set[Any] | None) -> None:
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def make_writer(trt: Library, file: IO[bytes], sha256: Any) -> Any:
    """A stream writer for ``build_serialized_network_to_stream``, which hashes what it writes.

    If the system refuses, because the disk is full for instance, the error is kept in ``error``: an
    exception must not cross TensorRT.
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


def _describe(
    trt: Library,
    options: EngineOptions,
    profiles: Sequence[Profile],
    machine: Machine,
    name: str,
) -> Engine:
    assert options.flavour is not None
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
        profiles=tuple(profiles),
        tf32=options.tf32,
        hardware=options.hardware,
        is_version_compatible=options.version_compatible,
        refit=options.refit,
        is_stripped=options.strip_weights,
        level=3 if options.level is None else options.level,
        name=name,
    )
