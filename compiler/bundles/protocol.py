"""A bundle whose graph holds the whole test protocol, of one net or of several that are fused."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vggspec.base.catalogue import fusion
from vggspec.base.catalogue.data import GraphRescales
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.files import replacing_folder
from vggspec.base.recipe import Average, Rounding
from vggspec.bundle.manifest import (
    MODEL,
    WEIGHTS,
    FileEntry,
    InputContract,
    Manifest,
    Member,
    OutputContract,
    file_entry,
)
from vggspec.compiler.backends.onnx.model import OnnxOptions, prepare
from vggspec.compiler.backends.onnx.protocol import PICTURE, POSTERIORS, GraphNet, emit
from vggspec.compiler.bundles.writer import (
    Written,
    check_place,
    least_size,
    make_manifest,
    place_weights,
    write_model,
    write_texts,
)
from vggspec.compiler.input_contract import known_mean, settled
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import WeightsFile, for_net


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolOptions:
    """What the user chooses about the protocol."""

    average: Average | None = None
    """What is averaged over space; None is what each spec says."""

    flip: bool | None = None
    """Whether mirror images are averaged in; None is what the specs say."""

    is_dense: bool = False
    """Whether nets whose specs ask for crops are applied densely all the same."""

    pool: Rounding | None = None
    stride: int | None = None
    """As in ``OnnxOptions``."""

    copy_weights: bool = False


def write_protocol_bundle(
    nets: Sequence[tuple[Lowered, WeightsFile]],
    out: str | os.PathLike[str],
    options: ProtocolOptions,
) -> tuple[Written, ...]:
    """Write a bundle with a graph from pictures to posteriors; what was written of each net.

    A bundle that stands at ``out`` is replaced.

    Raises:
        VggspecError: the nets cannot be fused, a net gives no posteriors or asks for crops, weights
            are another net's or not finite, something that is no bundle is in the way, or the
            system refuses.
    """
    target = Path(out)
    check_place(target)
    flip = _check(nets, options)
    names = _names([lowered.network.name for lowered, _ in nets])
    members: list[Member] = []
    parts: list[GraphNet] = []
    means = []
    checked = []
    manifest: Manifest | None = None
    for (net, given), name in zip(nets, names, strict=True):
        lowered, mean_from = settled(net, given)
        average = options.average or lowered.experiment.test.average
        net_options = OnnxOptions(average=average, pool=options.pool, stride=options.stride)
        network = prepare(lowered.network, net_options)
        weights = for_net(given, network)
        checked.append(weights)
        path = WEIGHTS if len(nets) == 1 else f"1/{name}.safetensors"
        own = make_manifest(lowered, network, weights, net_options, ())
        manifest = own if manifest is None else _both(manifest, own)
        members.append(
            Member(
                name=name,
                net=own.net,
                spec_text=own.spec_text,
                spec_sha256=own.spec_sha256,
                average=average,
                input=own.input,
                weights=path,
            )
        )
        parts.append(
            GraphNet(
                name=name,
                network=network,
                mean=known_mean(network.input),
                least=least_size(network),
                weights=weights,
                location=PurePosixPath(path).name,
            )
        )
        means.append(mean_from)
    assert manifest is not None
    model = emit(parts, flip=flip)
    with replacing_folder(target) as folder:
        write_model(folder / MODEL, model)
        files: list[FileEntry] = [file_entry(folder, MODEL)]
        ways = []
        for weights, member in zip(checked, members, strict=True):
            by, entry = place_weights(
                folder, weights, copy=options.copy_weights, path=member.weights
            )
            ways.append(by)
            files.append(entry)
        manifest = replace(
            manifest,
            net="+".join(names),
            input=_picture(members),
            outputs=(
                OutputContract(name=POSTERIORS, kind="posteriors", channels=_classes(nets[0])),
            ),
            test=replace(manifest.test, dense=True, crops=None, flip=flip),
            files=tuple(files),
            members=tuple(members),
        )
        write_texts(folder, manifest)
    return tuple(
        Written(manifest, mean_from, by) for mean_from, by in zip(means, ways, strict=True)
    )


def _check(nets: Sequence[tuple[Lowered, WeightsFile]], options: ProtocolOptions) -> bool:
    """Whether mirror images are averaged in; the nets fit each other and the protocol.

    Raises:
        VggspecError: they do not.
    """
    first, _ = nets[0]
    for lowered, weights in nets:
        output = lowered.network.outputs[0].name
        if output != POSTERIORS:
            raise _refused(fusion.NoPosteriors(gives=output), lowered)
        if lowered.experiment.test.resize != "rounded":
            raise _refused(GraphRescales(), lowered)
        if lowered.experiment.test.crops is not None and not options.is_dense:
            raise _refused(fusion.CropsInProtocol(), lowered)
        classes = _classes(nets[0]), _classes((lowered, weights))
        if classes[0] != classes[1]:
            raise _refused(fusion.OtherClasses(other=first.network.name, classes=classes), lowered)
        if (first.network.input.color == "gray") != (lowered.network.input.color == "gray"):
            raise _refused(fusion.GrayAndColour(other=first.network.name), lowered)
        if options.flip is None and first.experiment.test.flip != lowered.experiment.test.flip:
            raise _refused(fusion.OtherMirrorImages(other=first.network.name), lowered)
    labelled = [net for net in nets if _labels(net) is not None]
    for net in labelled[1:]:
        ours, theirs = _labels(labelled[0]), _labels(net)
        assert ours is not None
        assert theirs is not None
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)
        if at is not None:
            what = fusion.OtherLabels(
                other=labelled[0][0].network.name, index=at, labels=(ours[at], theirs[at])
            )
            raise _refused(what, net[0])
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
    """A name for each net that a file may have, unlike all others: the second of two D is D-2."""
    names: list[str] = []
    for net in nets:
        # A net without a name has that of its spec, which may hold anything.
        base = name = re.sub(r"[^A-Za-z0-9._-]", "_", net)
        number = 1
        while name.casefold() in map(str.casefold, names):
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def _both(first: Manifest, second: Manifest) -> Manifest:
    """What is so of two nets together: the larger window, and the labels that one of them has."""
    height, width = (max(sides) for sides in zip(first.window, second.window, strict=True))
    return replace(
        first,
        window=(height, width),
        labels=first.labels or second.labels,
        pool=first.pool or second.pool,
        finer_stride=first.finer_stride or second.finer_stride,
    )


def _picture(members: Sequence[Member]) -> InputContract:
    """The contract of a graph that takes pixels as they are, of whatever size its nets can see."""
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
