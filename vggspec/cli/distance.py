"""``vggspec distance``: how far images are from a reference, in the features of a net."""

import json
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.cli.computing import DEVICES, THREADS
from vggspec.cli.pictures import show_error

if TYPE_CHECKING:
    from vggspec.base.diagnostic import VggspecError


@click.command(
    "distance",
    epilog="""\b
Examples:
  vggspec distance lpips photo.png compressed.png
  vggspec distance lpips photo.png results --json""",
)
@click.argument("bundle")
@click.argument("reference")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    help="The device that runs the net.  [default: a CUDA device if there is one; on a CPU "
    "OpenVINO where it was measured ahead]",
)
@click.option("--threads", type=THREADS, metavar="N", help="CPU threads.  [default: all cores]")
def command(
    bundle: str,
    reference: str,
    images: tuple[str, ...],
    *,
    as_json: bool,
    device: Any,
    threads: int | None,
) -> int:
    """Print the perceptual distance of each image from the reference: 0 is alike to the net.

    BUNDLE was compiled with `--distance`. REFERENCE is an image; IMAGE is one, or a folder whose
    images are read with those of its subfolders. All have the size of the reference. An image that
    cannot be compared is reported, and the others are compared; the exit code is then 1.
    """
    from vggspec.cli.progress import shown as watching
    from vggspec.runtime.comparing import distance

    num_bad = 0

    def complain(error: "VggspecError") -> None:
        nonlocal num_bad
        num_bad += 1
        show_error(error)

    rows = []
    with watching() as watch:
        for each in distance(
            bundle,
            reference,
            list(images),
            device=device,
            threads=threads,
            watch=watch,
            on_error=complain,
        ):
            rows.append({"file": each.file, "distance": each.distance})
            if not as_json:
                click.echo(f"{each.distance:.6f}  {shown(each.file or '')}")
    if not rows and not num_bad:
        raise click.BadParameter("there are no images in it.", param_hint="IMAGE")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    return 1 if num_bad else 0
