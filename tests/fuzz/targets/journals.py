"""Journals of evaluations: damaged lines, and sound lines about what is not so."""

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from random import Random

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from tests.runtime.bundles import make
from tests.studies.evaluation.pictures import write_pictures
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.answers import Answering, Result, Tally
from vggspec.studies.evaluation.question import ask
from vggspec.studies.tasks.journal import _line, journal


def one(random: Random, folder: Path) -> str:
    """A journal to ``--resume``: what is taken up is counted, and nothing else is."""
    task = _task()
    results = [_result(random, task, int(index)) for index in task.indices]
    lines = [json.dumps(task.as_data(result)).encode() for result in results]
    path = folder / "journal.jsonl"
    is_signed = bool(random.randrange(2))
    at = random.randrange(len(lines))
    if is_signed:  # by who knows how, with values that are none
        twisted = mutate.twisted(random, json.loads(lines[at]))
        lines[at] = mutate.as_json(twisted)
    data = b"".join(_line(line) for line in lines)
    path.write_bytes(data if is_signed else mutate.damaged(random, data))
    taken: list[Result] = []
    wrong: list[str | None] = []

    def take_up() -> None:
        tally = Tally(task.question)
        with journal(task, path) as kept:
            wrong.append(kept.take_up(lambda result: taken.append(result) or True))
        for result in taken:
            if result.unread is None:
                tally.add(result)
        str(tally.confusions)

    found = answer(take_up)
    number = len(taken)
    if not is_signed:
        assert taken == results[:number], "a changed result was taken up"
    assert len({result.index for result in taken}) == number
    assert number == len(results) or wrong[0] is not None or is_torn(path, data), "not said"
    return f"{found}, {'all' if number == len(results) else 'some'}"


def is_torn(path: Path, data: bytes) -> bool:
    """Whether what was taken up is where the journal was cut, as an interruption leaves it."""
    kept = path.read_bytes() if path.exists() else b""
    return data.startswith(kept)


def _result(random: Random, task: Answering, index: int) -> Result:
    classes = task.question.nets[0].manifest.result.channels
    top = random.sample(range(classes), task.question.top)
    return Result(
        index=index,
        ranks=tuple(random.randrange(classes) for _ in task.question.settings),
        top=tuple((i, random.random()) for i in top),
        truth=random.random(),
    )


@lru_cache
def _task() -> Answering:
    folder = Path(tempfile.mkdtemp(prefix="vggspec-seeds-"))
    os.environ.setdefault("XDG_CACHE_HOME", str(folder / "cache"))
    net = open_bundle(make(folder / "net").path)
    return Answering(ask([net], [net.manifest.test], open_labelled(write_pictures(folder)))[0])
