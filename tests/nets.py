"""Nets and weights for tests."""

import re
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from tests.conftest import ROOT
from vggspec.base.source import Source
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.initialise import write_initial
from vggspec.compiler.lower import Lowered, load_network, lower
from vggspec.compiler.weights import WeightsFile, describe, open_weights, write
from vggspec.lang.loading import pick
from vggspec.lang.parser import parse

Arrays = dict[str, NDArray[np.float32]]

SMALL = """\
net small
input 32x32 RGB(mean 120 115 100, std 58 57 56)
conv3-8 BN  conv3-8
maxpool
conv3-16(groups 2) LRN
maxpool
FC-24
FC-10
soft-max
"""


def net(text: str, name: str = "test.vgg") -> Lowered:
    """The net of a spec given as text."""
    return lower(pick(parse(Source(name, text)), None))


def _single(path: Path) -> list[str]:
    """The net of a spec, or all nets of a table."""
    nets = [spec.name for spec in parse(Source(str(path), path.read_text("utf-8"))).specs]
    return [path.stem] if len(nets) == 1 else [f"{path.stem}:{name.text}" for name in nets if name]


#: Our specs of one path, the nets of Table 1 among them, each once.
COLUMNS = (
    "A", "A-LRN", "B", "C", "D", "E", "alexnet", "digits", "nin", "overfeat-fast", "vgg-cam",
    "vgg-f", "vgg-m", "vgg-s", "vgg16-bn", "zfnet",
)  # fmt: skip

#: Our specs that label positions.
MAPS = ("deeplab-largefov", "fcn16s", "fcn32s", "fcn8s", "unet", "vgg-unet")

#: Our other specs with branches or several outputs.
GRAPHS = tuple(
    name
    for path in sorted((ROOT / "specs").glob("*.vgg"))
    if path.stem not in (*COLUMNS, *MAPS, "table1")
    for name in _single(path)
)

#: Of these the ones that show what the others do not: a sum, channels joined, depthwise convs and a
#: dropped shortcut, BN before convs, taps.
FEW_GRAPHS = ("resnet:ResNet-18", "googlenet", "mobilenetv2", "densenet:DenseNet-121", "lpips")


def spec_of_ours(name: str) -> Lowered:
    """A net of ``specs/``: ``D``, ``resnet:ResNet-18``."""
    file, _, net_name = name.partition(":")
    return load_network(f"{ROOT / 'specs' / file}.vgg{':' if net_name else ''}{net_name}")


def narrowed(name: str, by: int = 8) -> Lowered:
    """A spec of ours with an eighth of its channels, or another part: all its layers, sizes and
    options, 1/64 of the arithmetic. Arguments of blocks stay, and claims, which are of the wide
    net, are left out.
    """
    text = spec_of_ours(name).text
    by = min(by, 4) if "groups 32" in text else by
    wide = re.compile(r"\b((?:up)?conv[0-9x]+|FC)-(\d+)")
    claim = re.compile(r"[\d.]+[MG]? (weight layers?|parameters|MACs)")
    text = "\n".join(line for line in text.splitlines() if not claim.search(line))
    text = re.sub(r"\b(\d+x\d+)x\d+\b", r"\1", text)
    last = max(match.start() for match in wide.finditer(text))  # the classes

    def narrow(match: re.Match[str]) -> str:
        number = int(match[2])
        return f"{match[1]}-{number if match.start() == last else max(2, number // by)}"

    source = Source(f"{name.partition(':')[0]}.vgg", wide.sub(narrow, text))
    return lower(pick(parse(source), name.partition(":")[2] or None))


def random_weights(lowered: Lowered, path: Path, seed: int = 0) -> WeightsFile:
    """A weights file whose numbers keep activations at about 1 (He et al. 2015)."""
    recipe = replace(lowered.experiment.train, start="he")
    write_initial(str(path), lowered.network, recipe, seed)
    return open_weights(path)


def any_weights(lowered: Lowered, path: Path) -> WeightsFile:
    """A weights file of small numbers, made fast: for what does not run the net."""
    rng = np.random.default_rng(0)

    def chunks(name: str) -> Iterator[NDArray[np.float32]]:
        left = prod(shapes[name])
        while left > 0:
            yield rng.random(min(left, 1 << 22), np.float32) * np.float32(0.01)
            left -= 1 << 22

    shapes = {param.name: param.stored for param in lowered.network.params()}
    write(path, shapes, chunks, describe(lowered.network))
    return open_weights(path)


def images(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers in the shape of a batch."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def disagreement(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, relative to the largest number."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run_torch(
    lowered: Lowered, weights: WeightsFile, options: CompileOptions, x: NDArray[np.float32]
) -> Arrays:
    module = torch_module.loaded(prepare(lowered.network, options), weights).eval()
    with torch.inference_mode():
        found = module(torch.from_numpy(x))
    if isinstance(found, torch.Tensor):
        found = {lowered.network.outputs[0].name: found}
    return {name: tensor.numpy() for name, tensor in found.items()}


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def openvino() -> Any:
    """Its core, which computes fp32 in fp32 and on one thread."""
    import openvino as ov

    core = ov.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    return core


def run_onnx(of: ort.InferenceSession, x: NDArray[np.float32]) -> Arrays:
    names = [output.name for output in of.get_outputs()]
    return dict(zip(names, of.run(None, {"image": x}), strict=True))
