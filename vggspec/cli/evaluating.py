"""What ``eval`` and ``reproduce`` share: options, a question in words, an evaluation."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.computing import (
    Command,
    computing_of,
    computing_options,
    go_through,
    journal_of,
    limit_option,
)
from vggspec.cli.table import scaled
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from vggspec.data.annotated import Annotated
    from vggspec.data.labelled import Labelled
    from vggspec.studies.evaluation.answers import Result, Tally
    from vggspec.studies.evaluation.question import Asked, Part, Question, Setting
    from vggspec.studies.tasks.work import Effort

_split_option = click.option(
    "--split", default="val", metavar="NAME", help="The folder below DIR.  [default: val]"
)


def running_options(command: Command) -> Command:
    """Options that say which images are looked at and how they are computed."""
    return _split_option(limit_option(computing_options(command)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What ``running_options`` says."""

    effort: "Effort"
    split: str
    limit: int | None


def effort_of(given: dict[str, Any]) -> Running:
    """The values of ``running_options``.

    Raises:
        MissingLibraryError: there are not as many GPUs.
    """
    return Running(effort=computing_of(given), split=given["split"], limit=given["limit"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A question and everything that was found."""

    question: "Question"
    tally: "Tally"
    results: "tuple[Result, ...]"
    """In the order of the data."""


@contextlib.contextmanager
def evaluated(question: "Question", effort: Running) -> Iterator[Evaluation]:
    """The answers to a question, which are kept until the block has told them.

    Raises:
        VggspecError: a net fails, or too many images cannot be read.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """
    from vggspec.studies.evaluation.answers import Answering, Tally

    task, tally = Answering(question), Tally(question)
    results: list[Result] = []

    def take(result: "Result") -> None:
        results.append(result)
        tally.add(result)

    def details() -> tuple[str, ...]:
        error = f"error {tally.settings[-1].top1_error:.2%}" if tally.images else ""
        return error, f"{len(tally.left_out)} left out" if tally.left_out else ""

    with journal_of(task, effort.effort) as kept:
        go_through(task, kept, effort.effort, take, doing="testing", details=details)
        results.sort(key=lambda result: result.index)
        yield Evaluation(question=question, tally=tally, results=tuple(results))
        if kept is not None:
            kept.clear()


# The question.


def say_question(question: "Question", source: str, effort: Running) -> None:
    """What is asked, and what it costs, before it runs."""
    from vggspec.base.diagnostic import VggspecError
    from vggspec.cli.costs import Cost, expected, mean_macs, samples

    names = ", ".join(shown(each.name) for each in question.nets)
    say("net" if len(question.nets) == 1 else "nets", names)
    classes = count(len(set(question.classes)), "class")
    say("data", f"{source}, {count(len(question.indices), 'image')} of {classes}")
    for text in dict.fromkeys(in_words(each) for each in question.nets):
        say("test", text)
    try:
        cost = Cost(question)
    except VggspecError:
        return  # a bundle without its spec runs all the same
    sample = samples(question)
    macs = mean_macs(question, cost, sample)
    if macs is None:
        return
    total = scaled(round(sum(macs) * len(question.indices)), "MAC")
    say("cost", f"{scaled(round(sum(macs)), 'MAC')} an image, {total} in all")
    median = sample[len(sample) // 2]
    gpus = effort.effort.procs if effort.effort.on_gpus else 1
    time = expected(question, cost, macs, median.index, gpus)
    if time is not None:
        say("time", time)


def say_notes(images: "Labelled | Annotated") -> None:
    """What of the folders is not used."""
    for note in images.notes:
        say("note", note)


def in_words(asked: "Asked") -> str:
    """A net's protocol in a line."""
    protocol = asked.protocol
    mirrored = "with" if protocol.flip else "without"
    ways = " and ".join(way_name(asked, way) for way in asked.ways)
    scales = ", ".join(map(str, protocol.scales))
    by = ", rescaled as by torchvision" if protocol.resize == "torchvision" else ""
    return f"Q {scales}{by}, {ways}, {mirrored} mirror images"


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
    from vggspec.studies.evaluation.answers import standard_error

    return f"{100 * share:.2f} ± {100 * standard_error(share, images):.2f} %"
