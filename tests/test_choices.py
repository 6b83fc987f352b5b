"""A word that is no choice is refused, by every function that takes one; and so are numbers, flags,
and lists of paths.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vggspec
from vggspec.base.arguments import plain
from vggspec.base.diagnostic import ArgumentError

NOWHERE = "/nonexistent"

CALLS: dict[str, Callable[[], Any]] = {
    "device: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, device="gpu"),
    "device: verify": lambda: vggspec.verify(NOWHERE, device="gpu"),
    "device: bench": lambda: vggspec.bench(NOWHERE, device="cuda:0"),
    "resize: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, resize="x"),
    "average: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, average="x"),
    "pool: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, pool="x"),
    "crops: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, crops=0),
    "limit: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, limit=0),
    "limit: evaluate_maps": lambda: vggspec.evaluate_maps(NOWHERE, NOWHERE, limit=-1),
    "resize: evaluate_maps": lambda: vggspec.evaluate_maps(NOWHERE, NOWHERE, resize="x"),
    "resize: features": lambda: vggspec.features(NOWHERE, images=[NOWHERE], resize="x"),
    "combine: features": lambda: vggspec.features(NOWHERE, images=[NOWHERE], combine="x"),
    "resize: localise": lambda: vggspec.localise(NOWHERE, NOWHERE, resize="x"),
    "limit: localise": lambda: vggspec.localise(NOWHERE, data=NOWHERE, limit=0),
    "ap: fit_svm": lambda: vggspec.fit_svm(NOWHERE, ap="x"),
    "to: export": lambda: vggspec.export("digits", NOWHERE, to="x"),
    "form: export": lambda: vggspec.export("digits", NOWHERE, form="x"),
    "average: torch_module": lambda: vggspec.torch_module("digits", average="x"),
    "precision: train": lambda: vggspec.train("digits", precision="fp64"),
    "validate: train": lambda: vggspec.train("digits", validate="x"),
    "micro_batch: train": lambda: vggspec.train("digits", micro_batch=0),
    "workers: train": lambda: vggspec.train("digits", workers=-1),
    "seed: train": lambda: vggspec.train("digits", seed=-1),
    "procs: train": lambda: vggspec.train("digits", procs=-2),
    "keep_every: train": lambda: vggspec.train("digits", keep_every=0),
    "save_every_s: train": lambda: vggspec.train("digits", save_every_s=-1),
    "micro_batch: dry_run": lambda: vggspec.dry_run("digits", micro_batch=-1),
    "seed: overfit": lambda: vggspec.overfit("digits", 2, seed=1 << 63),
    "images: overfit": lambda: vggspec.overfit("digits", 0),
    "steps: find_rate": lambda: vggspec.find_rate("digits", steps=19),
    "seed: verify": lambda: vggspec.verify(NOWHERE, seed=-1),
    "seed: initialise": lambda: vggspec.initialise("digits", seed=-1),
    "seed: fit_svm": lambda: vggspec.fit_svm(NOWHERE, seed=1 << 40),
    "table: reproduce": lambda: vggspec.reproduce("table9", NOWHERE, NOWHERE),
    "limit: reproduce": lambda: vggspec.reproduce("table3", NOWHERE, NOWHERE, limit=0),
    "least_iou: localise": lambda: vggspec.localise(NOWHERE, data=NOWHERE, least_iou=1.0),
    "least_iou: localise, NaN": lambda: vggspec.localise(NOWHERE, data=NOWHERE, least_iou=math.nan),
    "match: localise": lambda: vggspec.localise(NOWHERE, data=NOWHERE, match=-1),
    "layer: features": lambda: vggspec.features(NOWHERE, NOWHERE, layer=""),
    "bundles: features": lambda: vggspec.features([], NOWHERE),
    "bundles: evaluate": lambda: vggspec.evaluate([], NOWHERE),
    "bundles: localise": lambda: vggspec.localise([], data=NOWHERE),
    "spec: compile": lambda: vggspec.compile([], weights=NOWHERE, out=NOWHERE),
    "threads: bench": lambda: vggspec.bench("digits", threads=100_000),
    "threads: features": lambda: vggspec.features(NOWHERE, NOWHERE, threads=0),
    "threads: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, threads=1025),
    "threads: evaluate_maps": lambda: vggspec.evaluate_maps(NOWHERE, NOWHERE, threads=1025),
    "threads: localise": lambda: vggspec.localise(NOWHERE, NOWHERE, threads=-1),
    "threads: reproduce": lambda: vggspec.reproduce("table3", NOWHERE, NOWHERE, threads=1025),
    "runs: bench": lambda: vggspec.bench("digits", runs=0),
    "seconds: bench": lambda: vggspec.bench("digits", seconds=math.inf),
}

OF_ANOTHER_TYPE: dict[str, Callable[[], Any]] = {
    "flip: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, flip="no"),
    "dense: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, dense="no"),
    "enlarge: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, enlarge="no"),
    "limit: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, limit=2.5),
    "resume: evaluate": lambda: vggspec.evaluate(NOWHERE, NOWHERE, resume="no"),
    "bundles: evaluate": lambda: vggspec.evaluate(None, NOWHERE),
    "flip: evaluate_maps": lambda: vggspec.evaluate_maps(NOWHERE, NOWHERE, flip="no"),
    "flip: features": lambda: vggspec.features(NOWHERE, NOWHERE, flip="no"),
    "normalise: features": lambda: vggspec.features(NOWHERE, NOWHERE, normalise="no"),
    "layer: features": lambda: vggspec.features(NOWHERE, NOWHERE, layer=3),
    "images: features": lambda: vggspec.features(NOWHERE, images=b"photo.jpg"),
    "flip: localise": lambda: vggspec.localise(NOWHERE, NOWHERE, flip="no"),
    "least_iou: localise": lambda: vggspec.localise(NOWHERE, data=NOWHERE, least_iou="0.5"),
    "seed: train": lambda: vggspec.train("digits", seed=1.5),
    "seed: train, a flag": lambda: vggspec.train("digits", seed=True),
    "settings: train": lambda: vggspec.train("digits", settings=[3]),
    "resume: train": lambda: vggspec.train("digits", resume="no"),
    "images: overfit": lambda: vggspec.overfit("digits", 1.5),
    "seed: fit_svm": lambda: vggspec.fit_svm(NOWHERE, seed=1.5),
    "seed: verify": lambda: vggspec.verify(NOWHERE, seed="1"),
    "threads: bench": lambda: vggspec.bench("digits", threads=1.5),
    "sizes: bench, one side": lambda: vggspec.bench("digits", sizes=[(24,)]),
    "sizes: bench, no pairs": lambda: vggspec.bench("digits", sizes=(24, 24)),
    "sizes: bench, a fraction": lambda: vggspec.bench("digits", sizes=[(24.5, 24)]),
    "cs: fit_svm, a text": lambda: vggspec.fit_svm(NOWHERE, cs="15"),
    "cs: fit_svm": lambda: vggspec.fit_svm(NOWHERE, cs=1.0),
    "device: bench": lambda: vggspec.bench("digits", device=1),
    "batches: bench, no list": lambda: vggspec.bench("digits", batches=1),
    "batches: bench": lambda: vggspec.bench("digits", batches=[1.5]),
}


@pytest.mark.parametrize("call", CALLS)
def test_it_is_refused_by_name(call: str) -> None:
    name = call.partition(":")[0]
    with pytest.raises(ArgumentError, match=f"^`{name}` "):
        CALLS[call]()


@pytest.mark.parametrize("call", OF_ANOTHER_TYPE)
def test_another_type_is_refused_by_name(call: str) -> None:
    name = call.partition(":")[0]
    with pytest.raises(TypeError, match=f"^`{name}` "):
        OF_ANOTHER_TYPE[call]()


def test_numbers_and_flags_of_numpy_are_written_as_those_of_python() -> None:
    found = [plain(each) for each in (np.bool_(False), np.int64(2), np.float32(0.5), True, 3, None)]
    assert json.dumps(found) == "[false, 2, 0.5, true, 3, null]"


def test_a_map_needs_the_dense_form() -> None:
    with pytest.raises(vggspec.VggspecError, match="VGG303"):
        vggspec.torch_module("digits", keep_map=True)
