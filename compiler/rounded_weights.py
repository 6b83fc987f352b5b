"""Weights rounded to a lower precision, in memory: the input of an engine's builder.

A graph says the same by a cast, which every builder folds; but folding it once for each
optimisation profile took TensorRT-RTX several times as long as building from rounded weights.
Rounding is to the nearest, ties to even, as ONNX's Cast does it.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import ChangedFile
from vggspec.base.catalogue.engines import WeightTooLarge
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.processors import processors
from vggspec.bundle.options import Precision
from vggspec.compiler.weights import WeightsFile

DTYPES: dict[Precision, Any] = {
    "fp32": np.dtype("<f4"),
    "fp16": np.dtype("<f2"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
CHUNK = 1 << 20  # numbers that a thread keeps in fp32 at a time


def rounded(weights: WeightsFile, types: Mapping[str, Precision]) -> dict[str, NDArray[Any]]:
    """The arrays that ``types`` names, each in its type and as it is stored.

    Those that stay in fp32 are mapped from the file, not read. Of the others no more than a piece
    for each processor is in memory twice.

    Raises:
        VggspecError: a weight is beyond the largest number of its type.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tasks: list[tuple[str, int]] = []
    for name, precision in types.items():
        if precision == "fp32":
            arrays[name] = weights.read(name)
            continue
        tensor = weights.tensors[name]
        arrays[name] = np.empty(tensor.shape, DTYPES[precision])
        tasks += [(name, begin) for begin in range(0, tensor.bytes // 4, CHUNK)]
    buffers = threading.local()

    def convert(task: tuple[str, int]) -> None:
        name, begin = task
        if not hasattr(buffers, "numbers"):
            buffers.numbers = np.empty(CHUNK, "<f4")
        tensor, flat = weights.tensors[name], arrays[name].reshape(-1)
        part = flat[begin : begin + CHUNK]
        numbers = buffers.numbers[: part.size]
        _read_at(weights.path, tensor.offset + 4 * begin, numbers)
        try:
            with np.errstate(over="raise"):
                np.copyto(part, numbers, casting="unsafe")
        except FloatingPointError:
            largest = float(np.abs(numbers).max())
            what = WeightTooLarge(weight=name, value=largest, precision=types[name])
            raise VggspecError(report(what, path=str(weights.path))) from None

    with ThreadPoolExecutor(processors()) as pool:
        for _ in pool.map(convert, tasks):
            pass
    return arrays


def _read_at(path: Path, offset: int, into: NDArray[Any]) -> None:
    """Fill an array with the bytes at ``offset`` of a file."""
    left = memoryview(into.data).cast("B")
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while left:
            number = file.readinto(left)
            if not number:
                what = ChangedFile(file=str(path), reason="has become shorter")
                raise VggspecError(report(what))
            left = left[number:]
