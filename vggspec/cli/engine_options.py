"""The options of ``vggspec compile --trt``, and the build as the terminal shows it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vggspec.bundle.engine import Refit
    from vggspec.bundle.profile import Profile
    from vggspec.compiler.backends.onnx.model import OnnxOptions
    from vggspec.compiler.backends.tensorrt.build import EngineOptions
    from vggspec.compiler.ir import Network
    from vggspec.compiler.lower import Lowered

SEVERITIES = ("internal error", "error", "warning", "info", "verbose")
MIB = 1 << 20

_OPTIONS = (
    click.option("--trt", "to_trt", is_flag=True, help="Build a TensorRT engine instead."),
    click.option(
        "--trt-flavor",
        type=click.Choice(["tensorrt", "tensorrt_rtx"]),
        help="The classic TensorRT, which builds on the GPU that will run the engine, or "
        "TensorRT-RTX, which builds anywhere.  [default: what is installed; of both the classic "
        "where there is a GPU]",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="MIN,OPT,MAX",
        help="A range of input shapes, images x rows x columns, such as "
        "1x256x256,2x256x341,8x256x512; may be repeated.  [default: two for each scale of the "
        "spec's `test:`, landscape and portrait]",
    ),
    click.option(
        "--max-batch",
        type=click.IntRange(1, 1 << 16),
        metavar="N",
        help="Images a run at most, in the default profiles.  [default: 8, of crops 10]",
    ),
    click.option(
        "--tf32/--no-tf32",
        default=False,
        help="Let fp32 layers round their inputs to TF32.  [default: no]",
    ),
    click.option(
        "--capability",
        "capabilities",
        multiple=True,
        metavar="X.Y",
        help="A compute capability to build for, with RTX; may be repeated.  "
        "[default: 8.0, 8.6, 8.9, 12.0 and later]",
    ),
    click.option(
        "--opt-level",
        type=click.IntRange(0, 5),
        metavar="0-5",
        help="How long the classic builder searches.  [default: 3]",
    ),
    click.option(
        "--workspace",
        type=click.IntRange(1),
        metavar="MIB",
        help="Scratch memory that a kernel may take.  [default: all there is]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="Threads of the builder; 1 gives the same bytes nearly always, with RTX.  "
        "[default: one a processor]",
    ),
    click.option(
        "--timing-cache",
        metavar="FILE",
        help="Where the classic builder keeps the times of kernels.",
    ),
    click.option(
        "--timing-cache-mode",
        type=click.Choice(["record", "replay"]),
        default="record",
        help="Add new times to it, or leave it as it is.  [default: record]",
    ),
    click.option(
        "--version-compatible",
        "is_version_compatible",
        is_flag=True,
        help="Let later releases of the classic TensorRT run the engine.",
    ),
    click.option(
        "--hardware-compatible",
        "hardware",
        type=click.Choice(["none", "ampere_plus", "same_compute_capability"]),
        default="none",
        help="Let other GPUs run a classic engine.  [default: none]",
    ),
    click.option(
        "--refittable",
        "is_refittable",
        is_flag=True,
        help="Let `vggspec refit` put other weights in.",
    ),
    click.option(
        "--strip-weights",
        "is_stripped",
        is_flag=True,
        help="Leave the weights out of the plan; `vggspec refit` puts them in.",
    ),
    click.option(
        "--layer-info",
        "details",
        type=click.Choice(["none", "names", "all"]),
        default="all",
        help="What the plan tells an inspector of its layers.  [default: all]",
    ),
    click.option(
        "-v", "--verbose", count=True, help="Show what TensorRT says; twice: all that it says."
    ),
)


class WithEngineOptions(click.Command):
    """A command whose help lists the options of the build by themselves."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two lists: what says what is compiled, and what says how an engine is built."""
        rows: dict[str, list[tuple[str, str]]] = {"Options": [], "With --trt": []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None:
                rows["With --trt" if param.name in ONLY_WITH_TRT else "Options"].append(row)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


#: Options that say how an engine is built: the parameter, and how it is written.
ONLY_WITH_TRT = {
    "trt_flavor": "--trt-flavor",
    "profiles": "--profile",
    "max_batch": "--max-batch",
    "tf32": "--tf32",
    "capabilities": "--capability",
    "opt_level": "--opt-level",
    "workspace": "--workspace",
    "threads": "--threads",
    "timing_cache": "--timing-cache",
    "timing_cache_mode": "--timing-cache-mode",
    "is_version_compatible": "--version-compatible",
    "hardware": "--hardware-compatible",
    "is_refittable": "--refittable",
    "is_stripped": "--strip-weights",
    "details": "--layer-info",
    "verbose": "-v",
}


def read_engine_options(
    lowered: "Lowered", options: "OnnxOptions", given: dict[str, Any]
) -> "EngineOptions":
    """The options as the builder takes them.

    Raises:
        VggspecError: a profile is malformed, or a scale is too small.
        MissingLibraryError: no TensorRT is installed.
    """
    from vggspec.bundle.profile import parse_profile
    from vggspec.compiler.backends.tensorrt.build import (
        EngineOptions,
        check_options,
        choose_flavour,
    )
    from vggspec.compiler.bundles.engine import default_profiles
    from vggspec.runtime.machine import this_machine

    machine = this_machine()
    channels = lowered.network.input.channels
    if given["profiles"]:
        profiles = tuple(parse_profile(text, channels) for text in given["profiles"])
    else:
        profiles = default_profiles(lowered, options, given["max_batch"])
    workspace = given["workspace"]
    # A plan without its weights takes at least those back.
    least: Refit = "identical" if given["is_stripped"] else "none"
    refit = "all" if given["is_refittable"] else least
    chosen = EngineOptions(
        flavour=choose_flavour(given["trt_flavor"], machine),
        profiles=tuple(dict.fromkeys(profiles)),
        tf32=given["tf32"],
        level=given["opt_level"],
        workspace=None if workspace is None else workspace * MIB,
        threads=given["threads"],
        capabilities=tuple(dict.fromkeys(given["capabilities"])),
        hardware=given["hardware"],
        is_version_compatible=given["is_version_compatible"],
        refit=refit,
        is_stripped=given["is_stripped"],
        timing_cache=None if given["timing_cache"] is None else Path(given["timing_cache"]),
        timing_cache_mode=given["timing_cache_mode"],
        details=given["details"],
    )
    check_options(chosen, machine, {options.precision})
    return chosen


def show_cost(network: "Network", options: "OnnxOptions", profiles: "tuple[Profile, ...]") -> None:
    """Say on standard error what each profile will cost, before the build."""
    from vggspec.bundle.manifest import BYTES
    from vggspec.cli.table import aligned, memory, scaled
    from vggspec.compiler.cost import run_cost
    from vggspec.compiler.precision import number_types

    types = number_types(network, options.precision, options.keep_fp32)
    sizes = {name: BYTES[precision] for name, precision in types.items()}
    rows: list[tuple[str, ...]] = [
        ("profile", "min", "opt", "max", "MACs at opt", "activations at max")
    ]
    for index, profile in enumerate(profiles):
        usual, most = (run_cost(network, shape, sizes) for shape in (profile.opt, profile.max))
        shapes = ("x".join(map(str, shape)) for shape in (profile.min, profile.opt, profile.max))
        rows.append((str(index), *shapes, scaled(usual.macs), memory(most.bytes)))
    for line in aligned(rows, right=(4, 5)):
        click.echo(line, err=True)


class BuildDisplay:
    """A build's progress on standard error: a bar in a terminal, else nothing but warnings."""

    def __init__(self, verbose: int) -> None:
        self._verbose = verbose
        self._started = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                BarColumn(20),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("rounding weights", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the build began."""
        return time.monotonic() - self._started

    def share_done(self, phase: str, share: float) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=share, description=phase.lower())

    def heard(self, severity: int, text: str) -> None:
        """Show what TensorRT says, as far as it was asked for."""
        least = (1, 3, 4)[min(self._verbose, 2)]
        if severity > least or (severity <= 1 and self._verbose == 0):
            return  # errors are raised, and told once
        line = f"TensorRT {SEVERITIES[min(severity, 4)]}: {text}"
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)
