"""``vggspec refit``: other weights in an engine that is built already."""

import time
from typing import TYPE_CHECKING

import click

from vggspec.cli.normalising import tell_input

if TYPE_CHECKING:
    from vggspec.compiler.backends.tensorrt.refit import Refitted
    from vggspec.compiler.weights import Metadata


@click.command(
    "refit",
    epilog="""\b
Examples:
  vggspec compile specs/D.vgg --trt --refittable -o D
  vggspec refit D runs/D/best.safetensors -o D-later
  vggspec refit D-stripped D.safetensors""",
)
@click.argument("bundle")
@click.argument("weights")
@click.option(
    "-o",
    "--out",
    metavar="PATH",
    help="The new bundle, a folder.  [default: BUNDLE, which is replaced when all went well]",
)
@click.option(
    "--copy-weights",
    is_flag=True,
    help="Give the bundle its own copy of the weights, where a hard link would do.",
)
def command(bundle: str, weights: str, out: str | None, *, copy_weights: bool) -> None:
    """Put other weights of the same net into a bundle's TensorRT engine, without building it anew.

    The engine was built with --refittable; one built with --strip-weights gets back the weights
    that it was built from. Mean and labels come with the weights, as when a net is compiled. Every
    number of the engine is replaced, or nothing is written.

    The engine, which is native code, is loaded, so its GPU and its TensorRT are wanted here: exit
    code 3 without them.
    """
    from vggspec.bundle.manifest import open_bundle
    from vggspec.compiler.backends.tensorrt import refit as tensorrt_refit
    from vggspec.compiler.bundles.net import lowered_of
    from vggspec.compiler.weights import open_weights
    from vggspec.runtime.machine import this_machine

    opened, machine = open_bundle(bundle, deep=True), this_machine()
    tensorrt_refit.check_engine(opened, weights, machine)
    file = open_weights(weights)
    start = time.monotonic()
    path = out or bundle
    refitted = tensorrt_refit.refit(
        opened, lowered_of(opened), file, path, machine, copy_weights=copy_weights
    )
    _tell(refitted, file.metadata, time.monotonic() - start, asked_to_copy=copy_weights)
    click.echo(path)


def _tell(
    refitted: "Refitted", weights: "Metadata", seconds: float, *, asked_to_copy: bool
) -> None:
    from vggspec.base.wording import count
    from vggspec.runtime.tensorrt.seam import FLAVOURS

    manifest = refitted.manifest
    tell_input(manifest.input, refitted.mean_from, weights)
    for note in refitted.notes:
        click.echo(note, err=True)
    if refitted.weights_by == "copy" and not asked_to_copy:
        click.echo("the weights were copied: they cannot be linked from there", err=True)
    engine = manifest.engine
    assert engine is not None
    arrays = count(refitted.num_arrays, "array")
    title = f"{FLAVOURS[engine.flavour].title} {engine.version}"
    click.echo(f"{title}, {manifest.precision}: {arrays} replaced in {seconds:.1f} s", err=True)
