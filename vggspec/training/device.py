"""Device, precision, layout, threads, and the number of images at a time."""

import contextlib
import functools
import platform
import time
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

import torch

from vggspec.base.catalogue.ranks import TooManyRanks
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.processors import processors
from vggspec.compiler.cost import cost
from vggspec.compiler.ir import Network
from vggspec.training.freed_memory import keeping_freed_memory
from vggspec.training.ranks import Ranks
from vggspec.training.request import TrainPrecision

#: Multiply-accumulates an image from which a second thread is worth waiting for. Smaller layers are
#: done before threads have met, and on a busy machine that takes ten times as long.
THREADED_MACS = 50_000_000

#: A number type or a layout is chosen by measurement where it takes less than this part of the
#: other's time: what takes nearly the same might be chosen at one start and not at the next.
CLEARLY_FASTER = 0.7

#: A step needs more memory than can be counted: gradients of activations and workspaces are
#: temporary.
SLACK = 1.6

#: The share of the free memory that may be used.
USABLE = 0.8


def pick_device(gpus: int | None, ranks: Ranks) -> torch.device:
    """This rank's device: a GPU where there is one and ``gpus`` is not 0, else the CPU.

    Raises:
        MissingLibraryError: GPUs are asked for, and PyTorch finds none.
        VggspecError: there are fewer GPUs than ranks.
    """
    if gpus == 0:
        return torch.device("cpu")
    if gpus is None and not torch.cuda.is_available():
        return torch.device("cpu")
    check_gpus(gpus, ranks.local_size)
    place = torch.device("cuda", ranks.local_rank)
    torch.cuda.set_device(place)
    return place


def check_gpus(gpus: int | None, ranks: int) -> None:
    """Make sure that each rank of this machine has a GPU, unless ``gpus`` is 0.

    Raises:
        MissingLibraryError: PyTorch finds none.
        VggspecError: there are fewer than ranks.
    """
    if gpus == 0:
        return
    if not torch.cuda.is_available():
        raise MissingLibraryError("PyTorch finds no CUDA device here: train on CPUs with --gpus 0")
    number = torch.cuda.device_count()
    if ranks > number:
        what = TooManyRanks(ranks=ranks, available=number, of="GPUs on this machine")
        raise VggspecError(report(what))


def pick_precision(
    requested: TrainPrecision | None, place: torch.device, network: Network
) -> TrainPrecision:
    """The number type of the arithmetic: bf16 if the device has units for it, else fp32.

    Of x86 it is known which processors do; on others a convolution is measured in both types.
    Weights and their updates are fp32 in any case.

    Raises:
        MissingLibraryError: TF32 is asked for, and the device has none.
    """
    has_tensor_cores = place.type == "cuda" and torch.cuda.get_device_capability(place) >= (8, 0)
    if requested == "tf32" and not has_tensor_cores:
        raise MissingLibraryError("TF32 needs a GPU of compute capability 8.0: --precision fp32")
    if requested is not None:
        return requested
    if has_tensor_cores:
        return "bf16"
    # A narrow net spends its time on casts.
    is_wide = place.type == "cpu" and cost(network).macs >= THREADED_MACS
    return "bf16" if is_wide and _is_fast_in_bf16() else "fp32"


def pick_layout(place: torch.device, precision: TrainPrecision) -> torch.memory_format:
    """The layout of images with which the device's convolutions are fastest.

    Tensor cores take channels last. Without them, for fp32, a GPU is faster with contiguous images
    and needs a fifth less memory. On CPUs there is no difference with AVX-512, and contiguous
    images are faster without it; on processors that are not x86 a convolution is measured in both.
    """
    is_last = precision != "fp32" if place.type == "cuda" else _is_fast_in_channels_last(precision)
    return torch.channels_last if is_last else torch.contiguous_format


@contextlib.contextmanager
def computing(place: torch.device, precision: TrainPrecision, network: Network) -> Iterator[None]:
    """Set threads, memory, TF32 and algorithms for this training, and restore them afterwards.

    The same run gives the same numbers on the same hardware.
    """
    threads = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    algorithms = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    if place.type == "cpu":
        is_small = cost(network).macs < THREADED_MACS
        torch.set_num_threads(1 if is_small else min(threads, processors()))
    if place.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    keeping = keeping_freed_memory() if place.type == "cpu" else contextlib.nullcontext()
    try:
        with keeping:
            yield
    finally:
        torch.set_num_threads(threads)
        if place.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = algorithms


def images_at_a_time(
    network: Network,
    share: int,
    ranks: Ranks,
    step: Callable[[int], None] | None = None,
    *,
    copies_kept: int = 1,
) -> int:
    """The number of images of a rank's ``share`` of a batch that fit into memory at a time.

    ``step`` computes gradients for a number of images, and is tried until memory suffices. Without
    it, the free memory is compared with an estimate, with ``copies_kept`` of the parameters.
    """
    if step is not None:
        while share > 1:
            try:
                step(share)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                share = ceil(share / 2)
            else:
                break
        return share
    free = _free_bytes()
    if free is None:
        return share
    counted = cost(network)
    room = USABLE * free / ranks.local_size - counted.training_bytes(0, copies_kept)
    fitting = max(1, int(room / (SLACK * counted.kept_bytes)))
    return ceil(share / ceil(share / fitting))


def _is_fast_in_bf16() -> bool:
    if not _is_x86():
        bf16, fp32 = (conv_seconds(dtype) for dtype in (torch.bfloat16, torch.float32))
        return bf16 < CLEARLY_FASTER * fp32
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001


def _is_fast_in_channels_last(precision: TrainPrecision) -> bool:
    if not _is_x86():
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        last, first = (
            conv_seconds(dtype, layout) for layout in (torch.channels_last, torch.contiguous_format)
        )
        return last < CLEARLY_FASTER * first
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


@functools.cache  # one answer for a process: the model and the checks of memory ask too
def conv_seconds(
    dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format, rounds: int = 5
) -> float:
    """Seconds of a convolution of 64 channels and its gradients on this CPU, of the fastest round.

    It takes some milliseconds a round, less than the step of any net that is asked for.
    """
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).to(memory_format=layout)  # type: ignore[call-overload]
    image = torch.ones(4, 64, 56, 56).contiguous(memory_format=layout).requires_grad_()
    seconds = []
    for _ in range(1 + rounds):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = conv(image)
        output.backward(torch.ones_like(output))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _free_bytes() -> int | None:
    """Memory that this process may still take, or None where the system does not say."""
    found = []
    for path, key in (
        ("/proc/meminfo", "MemAvailable:"),
        ("/sys/fs/cgroup/memory.max", None),
    ):
        with contextlib.suppress(OSError, ValueError):
            text = Path(path).read_text()
            if key is not None:
                kilobytes = next(line.split()[1] for line in text.splitlines() if key in line)
                found.append(1024 * int(kilobytes))
            else:
                used = int(Path("/sys/fs/cgroup/memory.current").read_text())
                found.append(max(0, int(text) - used))
    return min(found, default=None)


def usual_workers(place: torch.device, ranks: Ranks, most: int = 16) -> int:
    """The number of processes that decode for a rank: its cores, or half if the net needs them."""
    share = processors() // ranks.local_size
    return max(1, min(share if place.type == "cuda" else share // 2, most))
