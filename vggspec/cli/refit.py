"""``vggspec refit``: new weights in an engine that exists."""

from typing import TYPE_CHECKING

import click

from vggspec.cli.building import tell_weights
from vggspec.cli.normalising import tell_input
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from vggspec.compiler.refitting import RefittedBundle


@click.command(
    "refit",
    epilog="""\b
Examples:
  vggspec compile specs/D.vgg --trt --refittable -o D
  vggspec refit D runs/D/2026-11-21-1/best.safetensors -o D-later
  vggspec refit D-stripped D.safetensors""",
)
@click.argument("bundle")
@click.argument("weights")
@click.option(
    "-o",
    "--out",
    metavar="PATH",
    help="The new bundle, a folder.  [default: replace BUNDLE on success]",
)
@click.option(
    "--link-weights/--copy-weights",
    help="Hard-link the weights into the bundle instead of copying them.  [default: copy]",
)
def command(bundle: str, weights: str, out: str | None, *, link_weights: bool) -> None:
    """Put other weights of the same net into a bundle's TensorRT engine, without rebuilding it.

    The engine must be built with --refittable; one built with --strip-weights takes back the
    weights that it was built from. Mean and labels come with the weights, as when a net is
    compiled. Every number of the engine is replaced, or nothing is written.

    The engine, which is native code, is loaded, so this needs its GPU and its TensorRT: exit code
    3 without them.
    """
    from vggspec.compiler.refitting import refit

    _tell(refit(bundle, weights, out, link_weights=link_weights))
    click.echo(out or bundle)


def _tell(done: "RefittedBundle") -> None:
    from vggspec.base.wording import count
    from vggspec.runtime.tensorrt.library import FLAVOURS

    manifest, written = done.manifest, done.refitted.bundle
    tell_input(manifest.input, written.mean_from[0], done.weights)
    for note in done.refitted.notes:
        say("", note)
    tell_weights(written.weights, is_link=manifest.options.link_weights)
    engine = manifest.engine
    assert engine is not None
    arrays = count(done.refitted.num_arrays, "array")
    title = f"{FLAVOURS[engine.flavour].title} {engine.version}"
    say("", f"{title}, {manifest.precision}: {arrays} replaced in {done.seconds:.1f} s")
