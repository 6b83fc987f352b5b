"""A word that is no choice is refused, by every function that takes one; and so are numbers."""

from collections.abc import Callable
from typing import Any

import pytest

import vggspec
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
}


@pytest.mark.parametrize("call", CALLS)
def test_it_is_refused_by_name(call: str) -> None:
    name = call.partition(":")[0]
    with pytest.raises(ArgumentError, match=f"^`{name}` "):
        CALLS[call]()


def test_a_map_needs_the_dense_form() -> None:
    with pytest.raises(vggspec.VggspecError, match="VGG303"):
        vggspec.torch_module("digits", keep_map=True)
