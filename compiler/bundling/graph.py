"""A bundle with an ONNX graph."""

import os
from dataclasses import replace
from pathlib import Path

from vggspec.base.watcher import SILENT, Watcher
from vggspec.bundle.manifest import FACTORS, MODEL, REFERENCE, Manifest
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.bundling.description import describe, input_of
from vggspec.compiler.bundling.staging import (
    Staging,
    WrittenBundle,
    check_outside,
    check_place,
    write,
)
from vggspec.compiler.factors import Factors, array_of, read_factors
from vggspec.compiler.input_contract import MeanFrom, known_mean, settled, with_input
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.precision import number_types
from vggspec.compiler.weights import Metadata, WeightsFile, for_net, save

BF16_NOTE = (
    "bf16: products may be computed in it; OpenVINO does on processors that have it, and ONNX"
    " Runtime computes this graph in fp32"
)


def write_bundle(
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    options: CompileOptions,
    *,
    like: Manifest | None = None,
    refer: bool = False,
    watch: Watcher = SILENT,
) -> WrittenBundle:
    """Write a bundle with an ONNX graph; a bundle at ``out`` is replaced.

    A graph for bf16 is the one for fp32: the manifest allows an engine to compute its products in
    bf16, as OpenVINO does on processors that have it. A graph in int8 contains its weights; those
    in fp32 are beside it for its reference, unless it is to be a single file.

    ``like`` is the manifest of a bundle of the same net and weights, whose input, labels and test
    protocol are kept. With ``refer`` the weights are a symbolic link, for a bundle that is removed
    before they are.

    Raises:
        VggspecError: the weights are another net's, not finite, or, where they are read, differ
            from the digest in their header; the options do not fit the net; something that is not
            a bundle is in the way; the system refuses; or as ``quantise``.
    """
    target = Path(out)
    check_place(target)
    if options.single_file:
        check_outside(target, weights)
    options = options.settled(lowered.experiment.test)
    mean_from: MeanFrom
    if like is None:
        lowered, mean_from = settled(lowered, weights)
    else:
        lowered, mean_from = with_input(lowered, input_of(like.input, lowered)), "bundle"
    network = prepare(lowered.network, options)
    factors = read_factors(options.factors, lowered.network) if options.distance else None
    is_bf16 = options.precision == "bf16"
    types = number_types(network, "fp32" if is_bf16 else options.precision, options.keep_fp32)
    is_int8 = options.precision == "int8"
    if like is None:
        weights = for_net(weights, network, is_read=options.single_file or is_int8)
    manifest = describe(lowered, network, weights, options)
    if is_int8:
        from vggspec.compiler.quantising.quantise import quantise

        quantised = quantise(lowered, weights, options, manifest, watch)
        model, manifest = quantised.model, quantised.described(manifest)
    else:
        model = emit(
            network,
            weights,
            contract=options.contract,
            mean=known_mean(network.input),
            is_dynamic=options.is_dense,
            types=types,
            weights_as="embedded" if options.single_file else "external",
            factors=factors,
        )

    def produce(staging: Staging) -> Manifest:
        staging.add_graph(MODEL, model)
        if not options.single_file:
            staging.add_weights(
                weights, link=options.link_weights, refer=refer, is_needed=not is_int8
            )
            if options.precision != "fp32":
                add_reference(staging, network, weights, options, factors)
        if factors is not None and options.factors is not None:
            add_factors(staging, factors)
        if like is None:
            return manifest
        is_labelled = manifest.result.kind == like.result.kind
        return replace(manifest, labels=like.labels if is_labelled else None, test=like.test)

    return write(target, produce, mean_from=(mean_from,), notes=(BF16_NOTE,) if is_bf16 else ())


def add_reference(
    staging: Staging,
    network: Network,
    weights: WeightsFile,
    options: CompileOptions,
    factors: Factors | None = None,
) -> None:
    """Write and list the same net in fp32, for ONNX Runtime, on the weights beside it."""
    model = emit(
        network,
        weights,
        contract=options.contract,
        mean=known_mean(network.input),
        is_dynamic=options.is_dense,
        factors=factors,
    )
    staging.add_graph(REFERENCE, model, is_needed=False)


def add_factors(staging: Staging, factors: Factors) -> None:
    """Write and list the factors, which the graph contains too: their digest says which they are,
    and a verification reads them.
    """
    arrays = {array_of(i): array for i, array in enumerate(factors)}
    save(staging.folder / FACTORS, arrays, Metadata())
    staging.add(FACTORS, is_needed=False)
