"""Which engine runs a bundle fastest on this CPU, as it was measured here.

``vggspec bench`` measures and calls ``remember``; ``open_session`` asks ``fastest`` where the
device is ``auto``. A record is a file of some bytes in the user's cache. It is named by all that
the times depend on: the files of the bundle and its precision, the processor, the number of
threads, and the versions of both libraries. So it is never out of date, only missing.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from vggspec.base.diagnostic import VggspecError
from vggspec.base.fields import BadFieldError, parse_object
from vggspec.base.files import cache_folder, write_text
from vggspec.base.processors import processors
from vggspec.base.regular_files import read_file
from vggspec.bundle.manifest import Manifest
from vggspec.runtime.machine import processor, this_machine

CpuDevice = Literal["cpu", "openvino"]
"""The devices that run a graph on the CPU: ``cpu`` is ONNX Runtime."""

Seconds = Mapping[CpuDevice, float]

AHEAD = 0.95
"""OpenVINO is chosen where it takes less than this part of ONNX Runtime's time: smaller differences
are noise, and not worth other digits than before."""

MAX_BYTES = 1 << 12


def remember(manifest: Manifest, seconds: Seconds, threads: int | None = None) -> bool:
    """Record how long a run of a bundle takes in each engine, on the same inputs and with the same
    number of threads, None for all cores. It replaces an earlier record.

    Returns:
        Whether it was recorded: a system without a cache, or with a full one, has no records.

    Raises:
        ValueError: an engine is missing, or a time is not positive.
    """
    if seconds.keys() != set(get_args(CpuDevice)):
        raise ValueError(f"a record has a time of each of {', '.join(get_args(CpuDevice))}")
    if not all(math.isfinite(each) and each > 0 for each in seconds.values()):
        raise ValueError("the time of a run is a positive number of seconds")
    path = _path(manifest, threads)
    if path is None:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"seconds": dict(seconds)}) + "\n")
    except (OSError, VggspecError):
        return False
    return True


def recall(manifest: Manifest, threads: int | None = None) -> Seconds | None:
    """The seconds of a run in each engine, as ``remember`` had them; None if this bundle was not
    measured on this machine, or the record is damaged.
    """
    path = _path(manifest, threads)
    try:
        if path is None or path.stat().st_size > MAX_BYTES:
            return None
        table = parse_object(read_file(path, MAX_BYTES)).object("seconds")
        found = {name: table.number(name, low=1e-9) for name in get_args(CpuDevice)}
    except (OSError, BadFieldError):
        return None
    return cast("Seconds", found)


def fastest(manifest: Manifest, threads: int | None = None) -> CpuDevice:
    """The engine that ``auto`` takes on a CPU: ONNX Runtime, unless OpenVINO was measured ahead."""
    seconds = recall(manifest, threads)
    is_ahead = seconds is not None and seconds["openvino"] < AHEAD * seconds["cpu"]
    return "openvino" if is_ahead else "cpu"


def _path(manifest: Manifest, threads: int | None) -> Path | None:
    """Where the record of a bundle is; None without a cache, or without one of the libraries."""
    base = cache_folder()
    machine = this_machine()
    if base is None or machine.onnxruntime is None or machine.openvino is None:
        return None
    key = (
        machine.onnxruntime.version,
        machine.openvino.version,
        machine.platform,
        processor(),
        str(threads or processors()),
        manifest.precision,
        *sorted(entry.sha256 for entry in manifest.files),
    )
    name = hashlib.sha256("\n".join(key).encode(errors="surrogateescape")).hexdigest()[:32]
    return base / "fastest-engine" / f"{name}.json"
