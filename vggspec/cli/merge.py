"""``vggspec merge``: fold branches and batch normalisations of a trained net into convs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli import progress, terminal
from vggspec.cli.completing import SPEC

if TYPE_CHECKING:
    from vggspec.compiler.merging.merge import Merged


@click.command(
    "merge",
    epilog="""\b
Examples:
  vggspec merge repvgg-a0 --weights repvgg-a0.safetensors
  vggspec merge vgg16-bn --weights vgg16-bn.safetensors -o vgg16-merged.vgg""",
)
@click.argument("spec", type=SPEC)
@click.option(
    "--weights",
    required=True,
    metavar="FILE",
    help="A weights file of the net, as `train` and `import` write it.",
)
@click.option(
    "-o",
    "--out",
    metavar="OUT.vgg",
    help="The spec to write; its weights are written to OUT.safetensors."
    "  [default: <net>-merged.vgg]",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Print details: every layer that stays as it is, and why."
)
def command(spec: str, weights: str, out: str | None, *, verbose: bool) -> None:
    """Fold branches and batch normalisations of a trained net into convs.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D.

    A batch normalisation after a conv or FC becomes a part of it. A sum whose branches are each a
    conv, a batch normalisation, both or nothing becomes one conv, as in RepVGG. The result is a
    net for inference with the same outputs. Files that exist are replaced, with a note.
    """
    from vggspec.compiler.merging.merge import merge

    with progress.shown() as watch:
        found = merge(spec, weights, out=out, watch=watch)
    for text in _in_words(found, is_whole=verbose):
        terminal.say("", text)
    terminal.say_written(found.spec)
    terminal.say_written(found.weights)


def _in_words(found: "Merged", *, is_whole: bool) -> Iterator[str]:
    """What was folded, and what was not."""
    sums, norms = count(len(found.sums), "sum"), count(len(found.norms), "batch normalisation")
    yield f"merged: {sums}, {norms}"
    before, after = found.before.parameters, found.network.parameters
    yield f"parameters: {before:,} before, {after:,} after"
    if not found.left:
        return
    adds = sum(found.network[one.name].op.keyword == "add" for one in found.left)
    sums, norms = count(adds, "sum"), count(len(found.left) - adds, "batch normalisation")
    yield f"left as they are: {sums}, {norms}"
    listed = found.left if is_whole else found.left[:3]
    for one in listed:
        yield f"  {shown(one.name)}: {one.why}"
    if len(listed) < len(found.left):
        yield f"  … {len(found.left) - len(listed)} more; -v prints them"
