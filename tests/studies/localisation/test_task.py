"""Places are kept to the last digit; what is none of this task is not taken for one."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.studies.localisation.localisers import make
from tests.training.folders import write_annotated
from vggspec.base.fields import BadFieldError, Fields, parse_object
from vggspec.base.recipe import TestProtocol
from vggspec.data.annotated import open_annotated
from vggspec.studies.localisation.localiser import Located, Method
from vggspec.studies.localisation.task import Locating


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Locating:
    folder = tmp_path_factory.mktemp("locating")
    # Boxes so small that some are none.
    boxes = make(folder / "boxes", "per-class", numbers=(0, 0, 0.2, 0.2), labels=None)
    judge = make(folder / "judge", "classes", seed=1, labels=None)
    data = open_annotated(write_annotated(folder / "data", train=1, val=3))
    return Locating(
        nets=(boxes.bundle,),
        classifiers=(judge.bundle,),
        method=Method(protocol=TestProtocol(scales=(20, 24)), top=2),
        data=data,
        classes=(0, 1, 2),
        indices=np.arange(len(data)),
        device="cpu",
    )


@pytest.fixture(scope="module")
def results(task: Locating) -> list[Located]:
    return list(task.results(task.indices.tolist()))


def as_text(task: Locating, result: Located) -> str:
    return json.dumps(task.as_data(result))


def test_results_come_back_to_the_last_digit(task: Locating, results: list[Located]) -> None:
    places = [place for one in results for place in (*one.likeliest, *one.asked)]
    assert any(place.box is None for place in places)
    assert any(place.box is not None for place in places)
    unread = Located(index=4, size=(0, 0), unread="it is “damaged”\n")
    for one in [*results, unread]:
        again = task.from_data(parse_object(as_text(task, one).encode()))
        assert as_text(task, again) == as_text(task, one)
        assert (again.index, again.size, again.unread) == (one.index, one.size, one.unread)
        for place, other in zip(one.likeliest, again.likeliest, strict=True):
            assert (place.label, place.posterior) == (other.label, other.posterior)
            assert (place.score, place.windows) == (other.score, other.windows)
            np.testing.assert_array_equal(place.box, other.box)


def test_it_is_the_same_in_another_process(task: Locating, results: list[Located]) -> None:
    other: Locating = pickle.loads(pickle.dumps(task.with_threads(1)))
    assert other.threads == 1
    assert other.digest() == task.digest()
    found = list(other.results([3, 1]))
    assert [as_text(task, one) for one in found] == [as_text(task, results[i]) for i in (3, 1)]


def test_another_question_has_another_digest(task: Locating) -> None:
    method = task.method
    others = [
        replace(task, method=replace(method, match=0.5)),
        replace(task, method=replace(method, protocol=TestProtocol(scales=(20,)))),
        replace(task, indices=task.indices[1:]),
        replace(task, classes=(1, 0, 2)),
        replace(task, nets=task.nets * 2),
        replace(task, device="auto"),
        replace(task, data=replace(task.data, stamp="other")),
        replace(task, data=replace(task.data, root=task.data.root / "other")),
    ]
    assert len({one.digest() for one in [task, *others]}) == 9
    quicker = replace(task, method=replace(method, threads=3, batch_pixels=9))
    assert quicker.digest() == task.digest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("size"),
        lambda data: data.update(size=[1]),
        lambda data: data.update(index=9),
        lambda data: data.update(index=-1),
        lambda data: data["likeliest"].pop(),
        lambda data: data["asked"].clear(),
        lambda data: data["asked"][0].update(label=7),
        lambda data: data["asked"][0].update(box=[1, 2, 3]),
        lambda data: data["asked"][0].update(box="word"),
        lambda data: data.update(unread="and yet it has places"),
    ],
)
def test_what_is_damaged_is_none(
    task: Locating, results: list[Located], damage: Callable[[Any], object]
) -> None:
    data = json.loads(as_text(task, results[0]))
    damage(data)
    with pytest.raises(BadFieldError):
        task.from_data(Fields(data))
