"""Random weights, as the recipe says.

Each array has its own random stream, made from the seed and the array's name, so that a layer
starts alike in any position, whatever else in the net changes.

An upconv whose window is that of bilinear interpolation begins with it.

Source: Simonyan & Zisserman 2015, section 3.1 (zero-mean normal of variance 1e-2, biases 0);
Glorot & Bengio 2010, equation 16; He et al. 2015, equation 10; Long et al. 2015,
section 3.3 (upconv).
"""

import hashlib
import math
import os
from collections.abc import Iterator

import numpy as np

from vggspec.base.arguments import MAX_SEED, check_whole
from vggspec.base.catalogue.artefacts import InTheWay
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import load_network
from vggspec.compiler.tensor import Param
from vggspec.compiler.weights import Array, describe, write

CHUNK = 1 << 22  # numbers in memory at a time


def initialise(
    spec: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None, seed: int = 0
) -> str:
    """Write a weights file with random weights, those with which training starts; its path.

    ``out`` is ``<net>.safetensors`` in the working folder by default. A file that exists is not
    replaced.

    Raises:
        VggspecError: the spec has mistakes, or the file exists or cannot be written.
        ArgumentError: ``seed`` is negative, or too large.
        TypeError: it is no whole number.
    """
    check_whole("seed", seed, least=0, most=MAX_SEED)
    lowered = load_network(spec)
    path = f"{lowered.network.name}.safetensors" if out is None else os.fspath(out)
    if os.path.isfile(path) or os.path.isdir(path):
        what = "a folder" if os.path.isdir(path) else "a file"
        raise VggspecError(report(InTheWay(what=what), path=path))
    write_initial(path, lowered.network, lowered.experiment.train, seed)
    return path


def draw(param: Param, recipe: TrainRecipe, seed: int) -> Iterator[Array]:
    """The initial numbers of one array, in flat pieces."""
    left = param.num_elements
    if param.start == "bilinear":
        yield from _interpolating(param)
        return
    if param.start != "random":
        value = 1.0 if param.start == "one" else 0.0
        while left > 0:
            yield np.full(min(left, CHUNK), value, np.float32)
            left -= CHUNK
        return
    key = hashlib.sha256(f"{seed}/{param.name}".encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
    fan_out, *inputs = param.shape
    fan_in = math.prod(inputs) if param.incoming is None else param.incoming
    while left > 0:
        size = min(left, CHUNK)
        if recipe.start == "glorot":
            area = math.prod(param.shape[2:])
            bound = math.sqrt(6 / (fan_in + fan_out * area))
            numbers = random.random(size, dtype=np.float32)
            numbers *= 2 * bound
            numbers -= bound
        else:
            std = recipe.start_std if recipe.start == "normal" else math.sqrt(2 / fan_in)
            numbers = random.standard_normal(size, dtype=np.float32)
            numbers *= np.float32(std)
        yield numbers
        left -= size


def _interpolating(param: Param) -> Iterator[Array]:
    """The kernels ``(C, C / groups, k, k)`` of bilinear interpolation, a piece for each channel in,
    which goes to the channel of its own number alone.
    """
    channels, in_group, side, _ = param.shape
    factor = (side + 1) // 2
    middle = (side - 1) / 2
    line = 1 - np.abs(np.arange(side) - middle) / factor
    kernel = np.outer(line, line).astype(np.float32)
    for channel in range(channels):
        kernels = np.zeros((in_group, side, side), np.float32)
        kernels[channel % in_group] = kernel
        yield kernels.reshape(-1)


def write_initial(path: str, network: Network, recipe: TrainRecipe, seed: int) -> None:
    """Write a weights file with the net's initial weights.

    Raises:
        VggspecError: the file cannot be written.
    """
    params = {param.name: param for param in network.params()}
    metadata = describe(network, mean=network.input.mean)
    shapes = {name: param.stored for name, param in params.items()}
    write(path, shapes, lambda name: draw(params[name], recipe, seed), metadata)
