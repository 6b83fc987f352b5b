"""A bundle whose graph contains the whole test protocol, of one net or of several fused ones."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vggspec.base.catalogue import fusion
from vggspec.base.catalogue.data import GraphRescales
from vggspec.base.catalogue.sizes import NotForPictures
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.bundle.labels import Classes, check_same
from vggspec.bundle.manifest import MODEL, WEIGHTS, InputContract, Manifest, Member, OutputContract
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.onnx.protocol import PICTURE, POSTERIORS, GraphNet, emit
from vggspec.compiler.bundling.description import describe
from vggspec.compiler.bundling.staging import (
    Staging,
    WrittenBundle,
    check_outside,
    check_place,
    write,
)
from vggspec.compiler.input_contract import known_mean, settled
from vggspec.compiler.lower import Lowered
from vggspec.compiler.results import in_words, result_of
from vggspec.compiler.weights import WeightsFile, for_net


def write_protocol_bundle(
    nets: Sequence[tuple[Lowered, WeightsFile]],
    out: str | os.PathLike[str],
    options: CompileOptions,
) -> WrittenBundle:
    """Write a bundle with a graph from pictures to posteriors; a bundle at ``out`` is replaced.

    Of ``options`` it uses the average, ``flip``, ``pool``, ``stride``, ``single_file`` and
    ``link_weights``. With the form ``dense`` a net whose spec asks for crops is applied densely
    too.

    Raises:
        VggspecError: the nets cannot be fused, a net gives no posteriors or asks for crops, weights
            are another net's, not finite or too large to embed, something that is not a bundle is
            in the way, or the system refuses.
    """
    target = Path(out)
    check_place(target)
    if options.single_file:
        for _, given in nets:
            check_outside(target, given)
    flip = _check(nets, options)
    names = _names([lowered.network.name for lowered, _ in nets])
    members: list[Member] = []
    parts: list[GraphNet] = []
    means = []
    manifest: Manifest | None = None
    for (net, given), name in zip(nets, names, strict=True):
        lowered, mean_from = settled(net, given)
        net_options = replace(options, form="dense").settled(lowered.experiment.test)
        network = prepare(lowered.network, net_options)
        weights = for_net(given, network, is_read=options.single_file)
        path = WEIGHTS if len(nets) == 1 else f"1/{name}.safetensors"
        if options.single_file:
            path = MODEL
        own = describe(lowered, network, weights, net_options)
        if own.input.sizes != "any":
            raise _refused(NotForPictures(fits=str(own.input.sizes)), lowered)
        manifest = own if manifest is None else _both(manifest, own)
        members.append(
            Member(
                name=name,
                net=own.net,
                spec_text=own.spec_text,
                spec_sha256=own.spec_sha256,
                average=own.average,
                input=own.input,
                weights=path,
            )
        )
        parts.append(
            GraphNet(
                name=name,
                network=network,
                mean=known_mean(network.input),
                least=own.input.size,
                weights=weights,
                location=None if options.single_file else PurePosixPath(path).name,
            )
        )
        means.append(mean_from)
    assert manifest is not None
    model = emit(parts, flip=flip)
    outputs = (OutputContract(name=POSTERIORS, kind="posteriors", channels=_classes(nets[0])),)
    manifest = replace(
        manifest,
        net="+".join(names),
        options=replace(manifest.options, protocol=True, flip=flip),
        input=_picture(members),
        outputs=outputs,
        test=replace(manifest.test, dense=True, crops=None, flip=flip),
        members=tuple(members),
    )

    def produce(staging: Staging) -> Manifest:
        staging.add_graph(MODEL, model)
        for part, member in zip(parts, members, strict=True):
            if not options.single_file:
                staging.add_weights(part.weights, link=options.link_weights, path=member.weights)
        return manifest

    return write(target, produce, mean_from=tuple(means))


def _check(nets: Sequence[tuple[Lowered, WeightsFile]], options: CompileOptions) -> bool:
    """Check that the nets fit each other and the protocol; whether mirror images are averaged in.

    Raises:
        VggspecError: they do not fit.
    """
    first, _ = nets[0]
    for lowered, _ in nets:
        network = lowered.network
        kind = result_of(network)
        if kind != POSTERIORS or len(network.outputs) > 1:
            gives = kind if len(network.outputs) == 1 else in_words(network.outputs)
            raise _refused(fusion.NoPosteriors(gives=gives), lowered)
        if lowered.experiment.test.resize != "rounded":
            raise _refused(GraphRescales(), lowered)
        if lowered.experiment.test.crops is not None and options.form != "dense":
            raise _refused(fusion.CropsInProtocol(), lowered)
        if (first.network.input.color == "gray") != (lowered.network.input.color == "gray"):
            raise _refused(fusion.GrayAndColour(other=first.network.name), lowered)
        if options.flip is None and first.experiment.test.flip != lowered.experiment.test.flip:
            raise _refused(fusion.OtherMirrorImages(other=first.network.name), lowered)
    classes = [
        Classes(net=net[0].network.name, number=_classes(net), labels=_labels(net)) for net in nets
    ]
    check_same(classes, lambda at, what: _refused(what, nets[at][0]))
    return first.experiment.test.flip if options.flip is None else options.flip


def _refused(what: Diagnostic, lowered: Lowered) -> VggspecError:
    return VggspecError(report(what, path=f"net {lowered.network.name}"))


def _classes(net: tuple[Lowered, WeightsFile]) -> int:
    network = net[0].network
    return network.type_of(network.outputs[0].layer).channels


def _labels(net: tuple[Lowered, WeightsFile]) -> tuple[str, ...] | None:
    """The labels that go with the weights, where there are as many as classes."""
    labels = net[1].metadata.labels
    return labels if labels and len(labels) == _classes(net) else None


def _names(nets: Sequence[str]) -> list[str]:
    """A name for each net that is a valid file name and unique: the second of two D is D-2."""
    names: list[str] = []
    for net in nets:
        # A net without a name has that of its spec, which may contain any character.
        base = name = re.sub(r"[^A-Za-z0-9._-]", "_", net)
        number = 1
        while name.casefold() in map(str.casefold, names):
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def _both(first: Manifest, second: Manifest) -> Manifest:
    """The manifest of two nets together: the larger window, and the labels that one of them has."""
    height, width = (max(sides) for sides in zip(first.window, second.window, strict=True))
    return replace(
        first,
        window=(height, width),
        labels=first.labels or second.labels,
        options=replace(
            first.options,
            pool=first.options.pool or second.options.pool,
            stride=first.options.stride or second.options.stride,
        ),
    )


def _picture(members: Sequence[Member]) -> InputContract:
    """The contract of a graph that takes pixels as they are, of any size that its nets take."""
    channels = len(members[0].input.mean)
    height, width = (
        max(sides) for sides in zip(*(member.input.size for member in members), strict=True)
    )
    return InputContract(
        contract="picture",
        color="gray" if channels == 1 else "RGB",
        mean=(0.0,) * channels,
        std=None,
        scale=1.0,
        size=(height, width),
        is_dynamic=True,
        name=PICTURE,
    )
