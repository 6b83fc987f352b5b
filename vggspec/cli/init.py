"""``vggspec init``: random weights, as the recipe says."""

import os

import click

from vggspec.cli.terminal import say_written


@click.command(
    "init",
    epilog="""\b
Examples:
  vggspec init specs/D.vgg
  vggspec init specs/table1.vgg:E -o E.safetensors --seed 7""",
)
@click.argument("spec")
@click.option(
    "-o", "--out", metavar="FILE", help="The file to write.  [default: <net>.safetensors]"
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
def command(spec: str, out: str | None, seed: int) -> None:
    """Write a weights file with random weights.

    The numbers are those with which training starts: a zero-mean normal of standard deviation
    0.1, or what `start` in the spec's `train:` section says; biases are 0. A file that is there
    already is left alone.
    """
    from vggspec.base.catalogue.artefacts import InTheWay
    from vggspec.base.diagnostic import VggspecError, report
    from vggspec.compiler.initialise import write_initial
    from vggspec.compiler.lower import load_network

    lowered = load_network(spec)
    path = out or f"{lowered.network.name}.safetensors"
    if os.path.isfile(path) or os.path.isdir(path):
        what = "a folder" if os.path.isdir(path) else "a file"
        raise VggspecError(report(InTheWay(what=what), path=path))
    write_initial(path, lowered.network, lowered.experiment.train, seed)
    say_written(path)
