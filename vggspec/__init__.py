"""vggspec: write a network as a column of the VGG paper's table, and train, compile, apply it.

import vggspec

module = vggspec.torch_module("specs/D.vgg", weights="D.safetensors")
vggspec.compile("specs/D.vgg", weights="D.safetensors", out="D")
with vggspec.load("D") as predictor:
    print(predictor("photo.jpg").top(5))
"""

from __future__ import annotations

from vggspec.base.version import __version__

TYPE_CHECKING = False  # nothing is loaded here: a command comes to its first line at once
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Literal

    from vggspec.base.diagnostic import MissingLibraryError, VggspecError
    from vggspec.base.recipe import Rounding
    from vggspec.bundle.engine import Flavour
    from vggspec.bundle.manifest import Precision
    from vggspec.compiler.backends.torch.module import SpecModule
    from vggspec.compiler.ir import Network
    from vggspec.runtime.predictor import Predictor

    Path = str | os.PathLike[str]

__all__ = [
    "MissingLibraryError",
    "VggspecError",
    "__version__",
    "compile",
    "compile_engine",
    "compile_protocol",
    "load",
    "network",
    "torch_module",
]


def __getattr__(name: str) -> type[Exception]:
    if name in ("MissingLibraryError", "VggspecError"):
        from vggspec.base import diagnostic

        return getattr(diagnostic, name)  # type: ignore[no-any-return]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def network(spec: str) -> Network:
    """The network of a spec, ``D.vgg`` or ``table1.vgg:D``: layers, shapes, parameters.

    Raises:
        VggspecError: the spec cannot be read or has mistakes.
    """
    from vggspec.compiler.lower import load_network

    return load_network(spec).network


def torch_module(
    spec: str,
    weights: Path | None = None,
    *,
    dense: bool = False,
    average: Literal["scores", "posteriors"] = "scores",
    keep_map: bool = False,
) -> SpecModule:
    """A spec as a PyTorch module, whose submodules and ``state_dict`` carry the layers' names.

    It takes float32 ``(N, C, H, W)`` and gives the net's output, ``(N, classes)``. The numbers are
    ``(x - mean) * scale / std``, x from 0 to 255, with those of the module's ``network.input``: as
    the spec says, or as the weights expect where it says nothing.
    ``dense`` gives the fully convolutional form on the same weights, for images of any larger
    size, averaged over space; with ``keep_map`` it gives a dict with ``score_map``
    ``(N, classes, h, w)`` too. ``weights`` are mapped into memory, not copied; without them they
    are PyTorch's initial ones.

    Raises:
        VggspecError: the spec has mistakes, or the weights are another net's or expect another
            input.
        MissingLibraryError: PyTorch is not installed.
    """
    from vggspec.base.optional import require

    require("torch", "a PyTorch module")
    from vggspec.compiler.backends.torch import module as backend
    from vggspec.compiler.input_contract import settled
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.passes import AverageOverSpace, FcToConv, run
    from vggspec.compiler.weights import open_weights

    over_space = AverageOverSpace(average=average, keep_map=keep_map)
    # Dropout stays in both forms: `train()` and `eval()` switch it.
    pipeline = (FcToConv(), over_space) if dense else (over_space,)
    lowered = load_network(spec)
    if weights is None:
        return backend.emit(run(pipeline, lowered.network))
    file = open_weights(weights)
    known, mean_from = settled(lowered, file)
    network = run(pipeline, (lowered if mean_from == "ILSVRC" else known).network)
    return backend.loaded(network, file)


def compile(  # noqa: A001 (the command's name)
    spec: str,
    *,
    weights: Path,
    out: Path,
    form: Literal["dense", "crop"] = "dense",
    contract: Literal["float", "raw"] = "float",
    average: Literal["scores", "posteriors"] | None = None,
    keep_map: bool = False,
    precision: Precision = "fp32",
    keep_fp32: Sequence[str] = (),
    single_file: bool = False,
    pool: Rounding | None = None,
    stride: int | None = None,
    layer: str | None = None,
) -> Path:
    """Write a bundle, as ``vggspec compile`` does; ``out``, the folder it is in.

    ``pool`` is how poolings round; ``stride`` how many pixels lie between two positions of the
    score map; ``layer`` the one whose numbers are the output. None is as the spec says.

    Raises:
        VggspecError: the spec has mistakes, the weights are another net's, or the bundle cannot
            be written.
    """
    from vggspec.compiler.backends.onnx.model import OnnxOptions
    from vggspec.compiler.bundles.writer import write_bundle
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import open_weights

    lowered = load_network(spec)
    options = OnnxOptions(
        form=form,
        average=average or lowered.experiment.test.average,
        contract=contract,
        keep_map=keep_map,
        precision=precision,
        keep_fp32=tuple(keep_fp32),
        single_file=single_file,
        pool=pool,
        stride=stride,
        layer=layer,
    )
    write_bundle(lowered, open_weights(weights), out, options)
    return out


def compile_engine(
    spec: str,
    *,
    weights: Path,
    out: Path,
    flavour: Flavour | None = None,
    precision: Precision = "fp32",
    keep_fp32: Sequence[str] = (),
    profiles: Sequence[str] = (),
    capabilities: Sequence[str] = (),
    tf32: bool = False,
    form: Literal["dense", "crop"] = "dense",
    contract: Literal["float", "raw"] = "float",
    average: Literal["scores", "posteriors"] | None = None,
    keep_map: bool = False,
) -> Path:
    """Write a bundle with a TensorRT engine, as ``vggspec compile --trt`` does; ``out``.

    ``profiles`` are written as ``--profile`` takes them, ``1x256x256,2x256x341,8x256x512``; none
    are those of the spec's ``test:`` section.

    Raises:
        VggspecError: as ``compile``; or TensorRT refuses the net.
        MissingLibraryError: TensorRT is not installed.
    """
    from vggspec.bundle.profile import parse_profile
    from vggspec.compiler.backends.onnx.model import OnnxOptions
    from vggspec.compiler.backends.tensorrt.build import EngineOptions, Unheard, choose_flavour
    from vggspec.compiler.bundles.engine import default_profiles, write_engine_bundle
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import open_weights
    from vggspec.runtime.machine import this_machine

    lowered = load_network(spec)
    options = OnnxOptions(
        form=form,
        average=average or lowered.experiment.test.average,
        contract=contract,
        keep_map=keep_map,
        precision=precision,
        keep_fp32=tuple(keep_fp32),
    )
    channels = lowered.network.input.channels
    written = tuple(parse_profile(text, channels) for text in profiles)
    engine_options = EngineOptions(
        flavour=choose_flavour(flavour, this_machine()),
        profiles=written or default_profiles(lowered, options),
        tf32=tf32,
        capabilities=tuple(capabilities),
    )
    file = open_weights(weights)
    write_engine_bundle(lowered, file, out, options, engine_options, Unheard())
    return out


def compile_protocol(
    nets: Sequence[tuple[str, Path]],
    *,
    out: Path,
    average: Literal["scores", "posteriors"] | None = None,
    flip: bool | None = None,
) -> Path:
    """Write a bundle with the whole test protocol, as ``vggspec compile --protocol`` does; ``out``.

    ``nets`` are specs, each with its weights; the posteriors of several are averaged. The graph
    takes a picture ``(H, W, C)`` and scales ``(K,)``.

    Raises:
        VggspecError: as ``compile``; or the nets cannot be fused.
    """
    from vggspec.compiler.bundles.protocol import ProtocolOptions, write_protocol_bundle
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import open_weights

    opened = [(load_network(spec), open_weights(weights)) for spec, weights in nets]
    write_protocol_bundle(opened, out, ProtocolOptions(average=average, flip=flip))
    return out


def load(
    bundle: Path,
    *,
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
    threads: int | None = None,
) -> Predictor:
    """Open a bundle to classify images: ``vggspec.load("D")("photo.jpg").top(5)``.

    A TensorRT engine is native code, and loaded only for the device ``tensorrt``.

    Raises:
        VggspecError: it is no bundle, or not as it was written.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """
    from vggspec.runtime.predictor import Predictor

    return Predictor(bundle, device=device, threads=threads)
