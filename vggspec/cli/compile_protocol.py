"""``vggspec compile --protocol``: the whole test protocol of one net or several as one graph."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from vggspec.cli.normalising import tell_input
from vggspec.cli.targets import say_weights

if TYPE_CHECKING:
    from vggspec.compiler.bundles.protocol import ProtocolOptions

#: Options that do not go with ``--protocol``, and why.
WITHOUT_PROTOCOL = {
    "--torch": "it is an ONNX graph",
    "--trt": "TensorRT does not take the rescaling in its graph",
    "--crop": "its graph applies nets densely",
    "--input": "its graph takes pictures as they are decoded",
    "--map": "its graph gives posteriors alone",
    "--layer": "its graph gives posteriors alone",
    "--single-file": "its weights stand beside the graph",
    "--precision": "its graph computes in fp32",
    "--keep-fp32": "its graph computes in fp32",
}


def check_options(given: Mapping[str, object]) -> None:
    """Make sure that no option was given that has no meaning for a graph with the protocol.

    Raises:
        click.UsageError: one was.
    """
    for option, why in WITHOUT_PROTOCOL.items():
        if given.get(option):
            raise click.UsageError(f"{option} does not go with --protocol: {why}")


def compile_protocol(
    specs: tuple[str, ...], weights: tuple[str, ...], out: str | None, options: "ProtocolOptions"
) -> None:
    """Write the bundle and say where it is.

    Raises:
        VggspecError: as ``write_protocol_bundle``.
        click.UsageError: there are not as many weights files as specs.
    """
    from vggspec.compiler.bundles.protocol import write_protocol_bundle
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import open_weights
    from vggspec.train.runs import find_weights

    if weights and len(weights) != len(specs):
        raise click.UsageError(
            f"give --weights once for each spec, in their order: {len(specs)} specs, "
            f"{len(weights)} weights files"
        )
    lowered = [load_network(spec) for spec in specs]
    found = list(weights)
    if not weights:
        for each in lowered:
            name, source = each.network.name, each.spec.source.name
            taken = find_weights(name, source, option="--weights")
            say_weights(taken)
            found.append(str(taken.path))
    nets = [(each, open_weights(path)) for each, path in zip(lowered, found, strict=True)]
    target = out or "+".join(each.network.name for each in lowered)
    written = write_protocol_bundle(nets, target, options)
    for member, result, net in zip(written[0].manifest.members, written, nets, strict=True):
        of = member.name if len(written) > 1 else None
        tell_input(member.input, result.mean_from, net[1].metadata, of)
    if not options.copy_weights and any(result.weights_by == "copy" for result in written):
        click.echo("the weights were copied: they cannot be linked from there", err=True)
    click.echo(target)
