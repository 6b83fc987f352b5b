"""``vggspec demo``: from handwriting to a net that reads it, with the command of each step."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vggspec.studies.demo import Page, PlacedDigit
    from vggspec.training.dataset import DataSet
    from vggspec.training.progress import TrainResult


@click.command(
    "demo",
    epilog="""\b
Examples:
  vggspec demo
  vggspec demo -o handwriting --seed 7""",
)
@click.option(
    "-o", "--out", metavar="DIR", default="demo", help="The folder to write.  [default: demo]"
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    metavar="N",
    help="The seed of the digits and of training.  [default: 0]",
)
def command(out: str, seed: int) -> None:
    """Train, compile and apply a small net, in a minute.

    The net learns single handwritten digits, is compiled to ONNX, and is applied densely to a
    picture with two rows of them. Each step prints the command that does the same.
    """
    from vggspec.base.optional import require

    require("torch", "the demo", "demo")
    require("sklearn", "the demo", "demo")
    from PIL import Image

    import vggspec
    from vggspec.cli.train_progress import train_shown
    from vggspec.compiler.lower import load_network
    from vggspec.studies import demo
    from vggspec.training.dataset import open_data
    from vggspec.training.loop import Options, fit
    from vggspec.training.runs import BEST, new_run

    folder = Path(out)
    spec = _shown_path(demo.spec_path())
    began = time.perf_counter()

    _say_step(1, "write scikit-learn's handwritten digits as a folder of images")
    digits = demo.load_digits(seed)
    number = demo.write_folder(folder / "images", digits, seed)
    click.echo(
        f"  {number} images of eleven classes, `{demo.BETWEEN}` among them, in {folder}/images"
    )

    _say_step(2, "train a net on them", "train", spec, "--data", folder / "images", "--seed", seed)
    lowered = load_network(spec)
    images = open_data(folder / "images", lowered.network)
    run = new_run(lowered.network.name, folder / "runs")
    with train_shown() as watch:
        result = fit(lowered, images, run, Options(seed=seed, gpus=0), watch=watch)
    _say_accuracy(result, images)

    weights, bundle, picture = run / BEST, folder / "digits", folder / "page.png"
    _say_step(
        3, "compile it, to be applied densely", "compile", spec,
        "--weights", weights, "--map", "-o", bundle,
    )  # fmt: skip
    vggspec.compile(spec, weights=weights, out=bundle, keep_map=True)
    click.echo(f"  {bundle} contains an ONNX graph for pictures of any size")

    page = demo.write_test_page(digits["val"], seed)
    Image.fromarray(page.pixels).save(picture)
    scale = min(page.pixels.shape)  # the page at its own size
    _say_step(
        4, "apply it to a page it has not seen", "predict", bundle, picture,
        "--scales", scale, "--no-flip",
    )  # fmt: skip
    with vggspec.load(bundle, device="cpu") as predictor:
        prediction = predictor(picture, scales=[scale], flip=False)
    seen = prediction.maps[0]
    read = demo.read_page(seen, prediction.labels)
    figure = folder / "digits-heatmap.png"
    demo.draw(page.pixels, seen, prediction.labels, read).save(figure)
    rows, columns = seen.posteriors.shape[1:]
    click.echo(f"  {rows * columns} windows of {picture} in one go, {rows} × {columns}")
    _say_reading(page, read)
    click.echo(f"\nHeat map: {figure}\nTotal: {time.perf_counter() - began:.0f} s.")


def _say_step(number: int, what: str, *arguments: object) -> None:
    click.echo(f"\n{number}. {what[:1].upper()}{what[1:]}.")
    if arguments:
        click.echo(f"  $ vggspec {shlex.join(str(argument) for argument in arguments)}")


def _say_accuracy(result: "TrainResult", images: "DataSet") -> None:
    """The accuracy on all classes, and on the ten digits alone, which are harder."""
    from vggspec.studies.demo import BETWEEN

    assert result.best is not None, "it trains for several epochs"
    validation = result.best.validation
    counts = {name: int((images.val.labels == i).sum()) for i, name in enumerate(images.classes)}
    num_digits = sum(counts.values()) - counts[BETWEEN]
    wrong = sum(
        round(error * counts[name])
        for name, error in validation.class_errors.items()
        if name != BETWEEN
    )
    click.echo(
        f"  {1 - validation.error:.2%} of {len(images.val)} validation images are right;"
        f" of the {num_digits} digits among them {1 - wrong / num_digits:.2%}"
        f" ({result.seconds:.0f} s)"
    )


def _say_reading(page: "Page", read: "list[PlacedDigit]") -> None:
    from vggspec.studies.demo import num_agreeing, rows_of

    places = list(page.digits)
    for word, found in (("written", places), ("read", read)):
        lines = [" ".join(place.label for place in row) for row in rows_of(found)]
        click.echo(f"  {word:8} {'   '.join(lines)}")
    click.echo(f"  {num_agreeing(places, read)} of {len(places)} digits agree", nl=False)
    extra = len(read) - len(places)
    click.echo(f", {extra} too many were read" if extra > 0 else "")


def _shown_path(path: Path) -> str:
    """The path relative to the current folder if it is below it, else the whole path."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
