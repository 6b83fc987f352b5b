"""``vggspec data``: report on a data set."""

import json

import click

from vggspec.cli.completing import SPEC
from vggspec.cli.terminal import wide_option


@click.command(
    "data",
    epilog="""\b
Examples:
  vggspec data birds
  vggspec data birds birds.vgg --sheet birds.png
  vggspec data ILSVRC D --json > ILSVRC.json""",
)
@click.argument("folder", metavar="DIR")
@click.argument("spec", type=SPEC, required=False)
@click.option("--sheet", metavar="FILE", help="Write a PNG with some images of each class.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the names of all files.")
@wide_option
def command(folder: str, *, spec: str | None, sheet: str | None, as_json: bool) -> int:
    """Report on the images in DIR before a net is trained on them.

    Every image is read and decoded. The report counts the images of each class, their sizes and
    formats, the files that cannot be read, and the images that are there twice: in a split, in
    train and in val, in two classes.

    With a SPEC it also says whether training that net would refuse the data. Then, and if more than
    one image in a hundred cannot be read, the exit code is 1.
    """
    from vggspec.cli.data_shown import print_report
    from vggspec.cli.progress import shown
    from vggspec.training.data_report import data_report

    with shown() as watch:
        found = data_report(folder, spec, sheet=sheet, watch=watch)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        print_report(found)
        if sheet is not None:
            click.echo(f"\nsheet: {sheet}")
    return 1 if found.refused else 0
