"""What ``eval`` and ``reproduce`` share: options, cost, progress, and an evaluation carried out."""

import contextlib
import signal
import statistics
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from vggspec.catalogue import count
from vggspec.cli.pacing import pacing
from vggspec.cli.table import scaled
from vggspec.render import shown

if TYPE_CHECKING:
    from vggspec.compiler.ir import Network
    from vggspec.runtime.evaluation.answers import Result, Tally
    from vggspec.runtime.evaluation.question import Asked, Part, Question, Setting, Step
    from vggspec.runtime.session import Device

    Size = tuple[int, int]

Command = TypeVar("Command", bound=Callable[..., Any])

SAMPLE = 32  # images whose headers tell how large images are
LINE = 92  # columns, after the word that says what a line is about

_OPTIONS = (
    click.option(
        "--split", default="val", metavar="NAME", help="The folder below DIR.  [default: val]"
    ),
    click.option(
        "--limit",
        type=click.IntRange(1),
        metavar="N",
        help="Only N images, taken evenly from all.",
    ),
    click.option("--resume", is_flag=True, help="Go on where the same evaluation was interrupted."),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
        default="auto",
        help="Where the nets run; `tensorrt` loads a bundle's engine, which is native code.  "
        "[default: a CUDA device if there is one]",
    ),
    click.option(
        "--procs", type=click.IntRange(1), metavar="N", help="Share the images among N processes."
    ),
    click.option(
        "--gpus", type=click.IntRange(1), metavar="N", help="The same, each with a GPU of its own."
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="N",
        help="CPU threads of each process.  [default: all cores, shared among processes]",
    ),
    click.option(
        "--batch",
        "batch_pixels",
        type=click.IntRange(1),
        metavar="PIXELS",
        help="The largest batch; one image always fits.  [default: 524288 on a CPU, 4194304 on a "
        "GPU]",
    ),
)


def running_options(command: Command) -> Command:
    """Options that say which images are looked at and how they are computed."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What ``running_options`` says."""

    split: str
    limit: int | None
    resume: bool
    device: "Device"
    procs: int
    on_gpus: bool
    threads: int | None
    batch_pixels: int | None


def effort_of(given: dict[str, Any]) -> Effort:
    """The values of ``running_options``.

    Raises:
        MissingLibraryError: there are not as many GPUs.
    """
    procs, gpus = given["procs"], given["gpus"]
    if procs and gpus:
        raise click.UsageError("Give `--procs` or `--gpus`, not both: a GPU has one process.")
    device = given["device"]
    if gpus:
        if device == "cpu":
            raise click.UsageError("`--gpus` does not go with `--device cpu`.")
        _check_gpus(gpus)
        device = "cuda" if device == "auto" else device
    return Effort(
        split=given["split"],
        limit=given["limit"],
        resume=given["resume"],
        device=cast("Device", device),
        procs=procs or gpus or 1,
        on_gpus=bool(gpus),
        threads=given["threads"],
        batch_pixels=given["batch_pixels"],
    )


def _check_gpus(wanted: int) -> None:
    from vggspec.diagnostic import MissingLibraryError
    from vggspec.machine import this_machine

    here = len(this_machine().gpus)
    if wanted > here:
        raise MissingLibraryError(f"{count(wanted, 'GPU')} asked for, and this machine has {here}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A question and everything that was found."""

    question: "Question"
    tally: "Tally"
    results: "tuple[Result, ...]"
    """In the order of the data."""


@contextlib.contextmanager
def evaluated(question: "Question", effort: Effort) -> Iterator[Evaluation]:
    """The answers to a question, which are kept until the block has told them.

    Raises:
        VggspecError: a net fails, or too many images cannot be read.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """
    from vggspec.runtime.evaluation.answers import Tally
    from vggspec.runtime.evaluation.journal import journal
    from vggspec.runtime.evaluation.processes import answer_by

    tally = Tally(question)
    with journal(question, resume=effort.resume) as kept:
        results = list(kept.found) if kept else []
        for result in results:
            tally.add(result)
        if effort.resume:
            images = count(len(question.indices), "image")
            say("note", f"{len(results) or 'none'} of {images} were done before")
        done = {result.index for result in results}
        left = [index for index in question.indices.tolist() if index not in done]
        total = len(question.indices)
        with (
            _interruptible(tally, can_go_on=kept is not None),
            pacing("testing", total, "images", before=len(results)) as show,
        ):
            for result in answer_by(question, left, effort.procs, on_gpus=effort.on_gpus):
                if kept is not None:
                    kept.add(result)
                results.append(result)
                tally.add(result)
                error = f"error {tally.settings[-1].top1_error:.2%}" if tally.images else ""
                show(tally.done, error, f"{len(tally.left_out)} left out" if tally.left_out else "")
        results.sort(key=lambda result: result.index)
        yield Evaluation(question=question, tally=tally, results=tuple(results))
        if kept is not None:
            kept.remove()


@contextlib.contextmanager
def _interruptible(tally: "Tally", *, can_go_on: bool) -> Iterator[None]:
    """Say how far it came where it is interrupted, and leave with the exit code of that."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as leaving:
        code = 128 + signal.SIGINT if isinstance(leaving, KeyboardInterrupt) else leaving.code
        total = count(len(tally.question.indices), "image")
        more = "; --resume goes on" if can_go_on else ""
        click.echo(f"interrupted after {tally.done} of {total}{more}", err=True)
        raise click.exceptions.Exit(code if isinstance(code, int) else 1) from leaving


def say(word: str, text: str) -> None:
    """A line about what is going on, or several."""
    lines = textwrap.wrap(text, LINE, break_on_hyphens=False, break_long_words=False)
    for i, line in enumerate(lines):
        click.echo(f"{'' if i else word + ':':8}{line}", err=True)


# Cost.


class Cost:
    """Multiply-accumulates of a question's nets, counted from their graphs.

    Raises:
        VggspecError: a bundle lacks a part of its spec.
    """

    def __init__(self, question: "Question") -> None:
        self._networks = [_network(each) for each in question.nets]
        self._known: dict[tuple[int, Size], int] = {}

    def of(self, step: "Step") -> int:
        """MACs of a net on all inputs of a look at an image."""
        from vggspec.compiler.cost import cost

        key = step.net, step.size
        if key not in self._known:
            self._known[key] = cost(self._networks[step.net].at(*step.size)).macs
        return step.inputs * self._known[key]


def _network(asked: "Asked") -> "Network":
    from vggspec.bundle import open_bundle
    from vggspec.compiler.backends.bundled_net import lowered_of, options_of
    from vggspec.compiler.backends.onnx_model import prepare

    return prepare(lowered_of(open_bundle(asked.path)).network, options_of(asked.manifest))


def sample_sizes(question: "Question") -> "list[Size]":
    """Rows and columns of some of the images, by their headers, the smallest area first."""
    from vggspec.data.decode import BadImageError, decoded_size
    from vggspec.runtime.evaluation.question import spread

    sizes = []
    for place in spread(len(question.indices), SAMPLE):
        with contextlib.suppress(BadImageError):
            sizes.append(decoded_size(question.images.read(int(question.indices[place]))))
    return sorted(sizes, key=lambda size: (size[0] * size[1], size))


def mean_macs(question: "Question", cost: Cost, sizes: "Sequence[Size]") -> int | None:
    """MACs an image, the mean over images of these sizes; None where the net takes none of them."""
    from vggspec.diagnostic import VggspecError
    from vggspec.runtime.evaluation.question import plan

    found = []
    for size in sizes:
        with contextlib.suppress(VggspecError):
            found.append(sum(cost.of(step) for step in plan(question, size)))
    return round(statistics.fmean(found)) if found else None


def say_question(question: "Question", source: str) -> None:
    """What is asked, and what it costs, before it runs."""
    from vggspec.diagnostic import VggspecError

    names = ", ".join(shown(each.name) for each in question.nets)
    say("net" if len(question.nets) == 1 else "nets", names)
    classes = count(len(set(question.classes)), "class")
    say("data", f"{source}, {count(len(question.indices), 'image')} of {classes}")
    for text in dict.fromkeys(in_words(each) for each in question.nets):
        say("test", text)
    try:
        macs = mean_macs(question, Cost(question), sample_sizes(question))
    except VggspecError:
        return  # a bundle without its spec runs all the same
    if macs is not None:
        total = scaled(macs * len(question.indices), "MAC")
        say("cost", f"{scaled(macs, 'MAC')} an image, {total} in all")


def in_words(asked: "Asked") -> str:
    """A net's protocol in a line."""
    protocol = asked.protocol
    mirrored = "with" if protocol.flip else "without"
    ways = " and ".join(way_name(asked, way) for way in asked.ways)
    scales = ", ".join(map(str, protocol.scales))
    return f"Q {scales}, {ways}, {mirrored} mirror images"


def way_name(asked: "Asked", way: str) -> str:
    """``dense``, ``central crop`` or ``crops 5×5``."""
    number = asked.protocol.crops or 1
    if way == "dense":
        return "dense"
    return "central crop" if number == 1 else f"crops {number}×{number}"


def columns_of(question: "Question", setting: "Setting") -> tuple[str, str, str]:
    """A setting's nets, scales and ways."""

    def ways(part: "Part") -> str:
        return ", ".join(way_name(question.nets[part.net], way) for way in part.ways)

    parts = setting.parts
    return (
        " + ".join(question.nets[part.net].name for part in parts),
        " + ".join(dict.fromkeys(", ".join(map(str, part.scales)) for part in parts)),
        " + ".join(dict.fromkeys(ways(part) for part in parts)),
    )


def percent(share: float, images: int) -> str:
    """An error with what chance makes of it, one sigma: ``24.81 ± 0.19 %``."""
    from vggspec.runtime.evaluation.answers import standard_error

    return f"{100 * share:.2f} ± {100 * standard_error(share, images):.2f} %"
