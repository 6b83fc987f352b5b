"""``vggspec init``: random weights, as the recipe says."""

import click

from vggspec.cli.completing import SPEC
from vggspec.cli.terminal import say_written


@click.command(
    "init",
    epilog="""\b
Examples:
  vggspec init D
  vggspec init specs/table1.vgg:E -o E.safetensors --seed 7""",
)
@click.argument("spec", type=SPEC)
@click.option(
    "-o", "--out", metavar="FILE", help="The file to write.  [default: <net>.safetensors]"
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    metavar="N",
    help="The seed of the weights.  [default: 0]",
)
def command(spec: str, out: str | None, seed: int) -> None:
    """Write a weights file with random weights.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D.

    These are the weights with which training starts: a zero-mean normal of standard deviation
    0.1, or as `start` in the spec's `train:` section says; biases are 0. A file that exists is
    not replaced.
    """
    from vggspec.compiler.initialise import initialise

    say_written(initialise(spec, out=out, seed=seed))
