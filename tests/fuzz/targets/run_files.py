"""What a run keeps: ``run.json``, the state of a checkpoint, the log."""

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from tests.fuzz.seeds import TINY
from tests.nets import net
from vggspec.base.recipe import TrainRecipe
from vggspec.base.run_record import RECORD
from vggspec.compiler.lower import Lowered, lower
from vggspec.compiler.weights import Metadata, describe, save
from vggspec.training.checkpoint import MOMENTUM, WEIGHTS, read_checkpoint
from vggspec.training.compare import compare
from vggspec.training.curves import read_log
from vggspec.training.progress import Epoch, Validation
from vggspec.training.record import read_record
from vggspec.training.request import merged, read_target
from vggspec.training.runs import CHECKPOINTS, LOG
from vggspec.training.state import TrainState


def one(random: Random, folder: Path) -> str:
    """A damaged file of a run to whoever resumes, repeats or draws the run."""
    return random.choice((_record, _state, _log, _compared))(random, folder)


def _changed(random: Random, value: Any) -> bytes:
    if random.randrange(4):
        return mutate.as_json(mutate.twisted(random, value))
    return mutate.damaged(random, mutate.as_json(value))


def _record(random: Random, folder: Path) -> str:
    (folder / RECORD).write_bytes(_changed(random, RUN))

    def repeat() -> None:
        spec, record = read_target(str(folder))
        assert record is not None
        lower(spec)
        merged(record, ("rate=0.1",))
        Path(record["data"]["folder"]).exists()
        read_record(folder)

    return f"record {answer(repeat)}"


def _state(random: Random, folder: Path) -> str:
    lowered, arrays, digest = _net()
    state = TrainState.at_start(TrainRecipe())
    state.best, state.unread, state.step = EPOCH, {"b\udcff.png": "it is empty"}, 7
    text = _changed(random, {"weights": digest, "state": state.as_json()})
    checkpoint = folder / CHECKPOINTS / "000000007"
    checkpoint.mkdir(parents=True)
    save(checkpoint / WEIGHTS, arrays, describe(lowered.network))
    more = {"state": text.decode(errors="replace")}
    save(checkpoint / MOMENTUM, arrays, Metadata(net="tiny", more=more))

    def resume() -> None:
        found = read_checkpoint(folder, lowered.network)
        assert found is not None
        found.state.plateau.after(0.5)
        json.dumps(found.state.as_json())

    return f"state {answer(resume)}"


def _log(random: Random, folder: Path) -> str:
    lines = [{**STEP, "step": step} for step in range(1, 4)] + [EPOCH_DATA]
    lines[random.randrange(4)] = mutate.twisted(random, random.choice(lines))
    data = b"".join(mutate.as_json(line) + b"\n" for line in lines)
    (folder / LOG).write_bytes(data if random.randrange(2) else mutate.damaged(random, data))
    return f"log {answer(lambda: read_log(folder / LOG))}"


EPOCH = Epoch(
    step=4,
    last_step=8,
    epoch=1,
    loss=1.25,
    validation=Validation(loss=1.0, errors={"top-1": 0.5}, class_errors={"a": 0.5}),
    rate=0.01,
    images_per_s=100.0,
    left_s=3.0,
    is_best=True,
    num_left_out=0,
)
STEP = {
    "step": 1, "last_step": 8, "epoch": 1, "loss": 1.5, "rate": 0.01, "images_per_s": 9.0,
    "left_s": 1.0,
}  # fmt: skip
EPOCH_DATA = json.loads(json.dumps({**STEP, **TrainState.as_json(
    TrainState(plateau=TrainState.at_start(TrainRecipe()).plateau, best=EPOCH)
)["best"]}))  # fmt: skip
RUN = {
    "net": "tiny",
    "spec": "tiny.vgg",
    "spec_text": TINY,
    "settings": ["rate=0.02"],
    "seed": 3,
    "options": {"precision": "fp32", "validate": "crop", "compile": False},
    "computed": {"device": "cpu", "ranks": 1, "micro_batch": 4, "threads": 1},
    "started_from": [{"weights": "C.safetensors", "data_sha256": "0" * 64}],
    "data": {"folder": "data\udcff", "classes": ["a"], "fingerprint": "0"},
    "statistics": {
        "mean": [1.0, 2.0, 3.0],
        "covariance": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        "num_images": 5,
    },
}


def _compared(random: Random, folder: Path) -> str:
    """Beside a run that is whole."""
    for name in ("one", "other"):
        (folder / name).mkdir()
        (folder / name / RECORD).write_bytes(mutate.as_json(RUN))
        lines = [STEP, EPOCH_DATA]
        (folder / name / LOG).write_bytes(b"".join(mutate.as_json(line) + b"\n" for line in lines))
    (folder / "one" / RECORD).write_bytes(_changed(random, RUN))

    def both() -> None:
        found = compare([folder / "one", folder / "other"])
        json.dumps(found.as_data())

    return f"compared {answer(both)}"


@lru_cache
def _net() -> tuple[Lowered, dict[str, Any], str]:
    lowered = net(TINY)
    arrays = {param.name: torch.zeros(param.stored).numpy() for param in lowered.network.params()}
    path = Path(tempfile.mkdtemp(prefix="vggspec-seeds-")) / "w"
    return lowered, arrays, save(path, arrays, describe(lowered.network))
