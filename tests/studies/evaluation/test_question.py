"""What is asked is checked before a net is loaded, and says what will be averaged."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.bundles import LABELS, WINDOW, Made, make, weights
from tests.studies.evaluation.pictures import FOLDERS, write_pictures
from vggspec.base import recipe
from vggspec.base.catalogue import artefacts, evaluating, fusion
from vggspec.base.diagnostic import Diagnostic, VggspecError
from vggspec.bundle.manifest import Member
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.data.matched import spread
from vggspec.runtime.preprocess import rescaled_size
from vggspec.runtime.protocol import Look
from vggspec.studies.evaluation.question import (
    Asked,
    NetLooks,
    Question,
    Setting,
    Step,
    ask,
    plan,
    table,
)

BOTH = recipe.TestProtocol(scales=(17, 24, 30), crops=3)


def bundle(path: Path, **changes: Any) -> Bundle:
    return open_bundle(make(path, **changes).path)


def asked(path: Path, protocol: recipe.TestProtocol, **changes: Any) -> Question:
    data = open_labelled(write_pictures(path / "data"))
    return ask([bundle(path / "net")], [protocol], data, **changes)[0]


def wrong(*bundles: Bundle, data: Labelled, **changes: Any) -> tuple[Diagnostic, str | None]:
    protocol = changes.pop("protocol", recipe.TestProtocol(scales=(24,)))
    with pytest.raises(VggspecError) as caught:
        ask(bundles, [protocol] * len(bundles), data, **changes)
    (found,) = caught.value.reports
    return found.what, found.path


def nets(*protocols: recipe.TestProtocol, made: Made) -> list[Asked]:
    return [
        Asked(path=str(made.path), name=f"{i}", manifest=made.manifest, protocol=protocol)
        for i, protocol in enumerate(protocols)
    ]


def test_the_table_has_the_rows_of_the_papers_tables(tmp_path: Path) -> None:
    made = make(tmp_path / "net")
    scales = (17, 24, 30)

    def row(*parts: tuple[int, tuple[int, ...], str]) -> Setting:
        return Setting(
            tuple(NetLooks(net=i, scales=q, ways=tuple(w.split())) for i, q, w in parts)  # type: ignore[arg-type]
        )

    single = [row((i, (q,), "dense")) for i in (0, 1) for q in scales]
    several = [row((i, scales, way)) for i in (0, 1) for way in ("dense", "crops", "dense crops")]
    fused = [row((0, scales, w), (1, scales, w)) for w in ("dense", "crops", "dense crops")]
    assert list(table(nets(BOTH, BOTH, made=made))) == [*single, *several, *fused]
    # One net, one scale, one way: one row.
    one = recipe.TestProtocol(scales=(24,))
    assert table(nets(one, made=made)) == (row((0, (24,), "dense")),)


def test_a_net_of_one_size_is_in_every_row_by_crops(tmp_path: Path) -> None:
    whole, fixed = make(tmp_path / "a"), make(tmp_path / "b", is_dynamic=False, with_map=False)
    protocol = recipe.TestProtocol(scales=(24,), crops=2)
    first, second = nets(protocol, made=whole), nets(protocol, made=fixed)
    rows = table([*first, *second])
    fused = [[part.ways for part in row.parts] for row in rows if len(row.parts) == 2]
    assert fused == [
        [("dense",), ("crops",)],
        [("crops",), ("crops",)],
        [("dense", "crops"), ("crops",)],
    ]


@pytest.mark.parametrize("size", [(43, 70), (61, 37), (24, 24)])
def test_the_plan_is_what_the_nets_are_given(tmp_path: Path, size: tuple[int, int]) -> None:
    steps = plan(asked(tmp_path, BOTH), size)
    expected = []
    for scale in BOTH.scales:
        rescaled = rescaled_size(size, scale)
        expected += [
            Step(net=0, look=Look(scale, "dense"), rescaled=rescaled, inputs=2, size=rescaled),
            Step(
                net=0,
                look=Look(scale, "crops"),
                rescaled=rescaled,
                inputs=18,
                size=(WINDOW, WINDOW),
            ),
        ]
    assert list(steps) == expected


def test_the_plan_knows_what_is_enlarged(tmp_path: Path) -> None:
    protocol = recipe.TestProtocol(scales=(WINDOW - 3,), flip=False)
    (step,) = plan(asked(tmp_path, protocol, enlarge=True), (40, 50))
    assert (step.rescaled, step.inputs, step.look.scale) == ((WINDOW, 20), 1, WINDOW - 3)


@pytest.mark.parametrize(("number", "limit"), [(10, 4), (10, 10), (10, None), (10, 99), (7, 1)])
def test_a_limit_is_spread_evenly(number: int, limit: int | None) -> None:
    kept = spread(number, limit)
    wanted = number if limit is None else min(limit, number)
    assert len(set(kept.tolist())) == wanted
    assert kept.tolist() == sorted(kept.tolist())
    assert 0 <= kept.min() <= kept.max() < number
    gaps = np.diff(kept)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_classes_are_found_by_name_or_by_one_of_their_names(tmp_path: Path) -> None:
    question = asked(tmp_path, recipe.TestProtocol(scales=(24,)))
    assert question.labels == LABELS
    assert [question.labels[i] for i in question.classes] == ["ant", "cat", "dog", LABELS[1]]
    last = len(question.images) - 1
    assert question.truth(last) == 1


@pytest.mark.parametrize(
    ("folders", "labels", "classes"),
    [
        (("DOG", "ant"), LABELS, (3, 0)),
        (tuple("n0000000" + c for c in "12345"), LABELS, (0, 1, 2, 3, 4)),
        (("a", "b", "c", "d", "e"), None, (0, 1, 2, 3, 4)),
        # Names that are there count more than their order.
        (("n00000002", "n00000009"), tuple("n0000000" + c for c in "92345"), (1, 0)),
        # `crane` is two labels; whole labels tell them apart.
        (("crane", "crane, bird"), ("crane", "b", "crane, bird", "d", "e"), (0, 2)),
        # Capitals count where they are all that differs.
        (("A", "B", "a", "b"), ("a", "A", "b", "B", "e"), (1, 3, 0, 2)),
    ],
)
def test_class_folders_and_labels(
    tmp_path: Path,
    folders: tuple[str, ...],
    labels: tuple[str, ...] | None,
    classes: tuple[int, ...],
) -> None:
    data = open_labelled(write_pictures(tmp_path / "data", 1, folders))
    net = bundle(tmp_path / "net", labels=labels)
    question, assumed = ask([net], [net.manifest.test], data)
    assert [question.classes[sorted(folders).index(name)] for name in folders] == list(classes)
    is_by_order = labels is None or folders[0] == "n00000001"
    assert (assumed is not None) == is_by_order


@pytest.mark.parametrize("folders", [("bee", "cat", "honey bee"), ("Cat", "ant", "cat")])
def test_two_folders_of_one_class(tmp_path: Path, folders: tuple[str, ...]) -> None:
    data = open_labelled(write_pictures(tmp_path / "data", 1, folders))
    net = bundle(tmp_path / "net", labels=LABELS)
    with pytest.raises(VggspecError) as caught:
        ask([net], [net.manifest.test], data)
    assert isinstance(caught.value.reports[0].what, evaluating.SameClass)


@pytest.mark.parametrize(
    ("folders", "labels", "foreign", "like"),
    [
        (("ant", "cats", "x"), LABELS, ("cats", "x"), "cat"),
        (("a", "b", "c", "d", "e"), LABELS, ("a", "b", "c", "d", "e"), None),
        (("n00000001", "n00000002"), LABELS, ("n00000001", "n00000002"), None),
        (("a", "b", "c"), None, (), None),
        (("crane",), ("crane, bird", "crane, machine", "c", "d", "e"), ("crane",), None),
        (("crane", "d"), ("crane", "b", "crane", "d", "e"), ("crane",), "crane"),
        (("ANT",), ("Ant", "ant", "c", "d", "e"), ("ANT",), "Ant"),
    ],
)
def test_classes_that_the_net_does_not_have(
    tmp_path: Path,
    folders: tuple[str, ...],
    labels: tuple[str, ...] | None,
    foreign: tuple[str, ...],
    like: str | None,
) -> None:
    data = open_labelled(write_pictures(tmp_path / "data", 1, folders))
    what, path = wrong(bundle(tmp_path / "net", labels=labels), data=data)
    assert isinstance(what, evaluating.ForeignClasses)
    assert (what.foreign, what.like) == (foreign, like)
    assert (what.classes, what.outputs, path) == (len(folders), 5, str(tmp_path / "data" / "val"))
    assert what.title()
    assert what.help()


def test_shards_without_names_are_numbered_as_the_net_s_classes(tmp_path: Path) -> None:
    data = open_labelled(write_pictures(tmp_path / "data"))
    net = bundle(tmp_path / "net")
    question, _ = ask([net], [net.manifest.test], replace(data, classes=None))
    assert question.classes == (0, 1, 2, 3)
    beyond = replace(data, classes=None)
    beyond.images.labels = beyond.images.labels + 2
    what, _ = wrong(net, data=beyond)
    assert isinstance(what, evaluating.ForeignClasses)
    assert "6 classes" in what.title()


def test_nets_with_other_classes_are_not_fused(tmp_path: Path) -> None:
    data = open_labelled(write_pictures(tmp_path / "data"))
    one = bundle(tmp_path / "one")
    swapped = (*LABELS[:3], "eel", "dog")
    what, path = wrong(one, bundle(tmp_path / "two", labels=swapped), data=data)
    expected = fusion.OtherLabels(other="one", index=3, labels=("dog", "eel"))
    assert (what, path) == (expected, str(tmp_path / "two"))
    fewer = make(tmp_path / "fewer", labels=None).manifest
    result = replace(fewer.result, channels=4)
    other = Bundle(tmp_path / "fewer", replace(fewer, outputs=(result,)))
    what, path = wrong(one, other, data=data)
    assert what == fusion.OtherClasses(other="one", classes=(5, 4))
    # A net without labels is taken at its word.
    question, _ = ask([bundle(tmp_path / "none", labels=None), one], [BOTH, BOTH], data)
    assert question.labels == LABELS


def test_what_does_not_classify_is_refused(tmp_path: Path) -> None:
    data = open_labelled(write_pictures(tmp_path / "data"))
    one, scores = bundle(tmp_path / "one"), bundle(tmp_path / "scores", kind="scores")
    assert isinstance(wrong(one, scores, data=data)[0], evaluating.ScoresNotFused)
    ask([scores], [scores.manifest.test], data)  # alone it may
    boxes = replace(one.manifest, outputs=(replace(one.manifest.result, kind="boxes"),))
    what, _ = wrong(Bundle(one.path, boxes), data=data)
    assert isinstance(what, artefacts.NoClasses)
    assert "vggspec localise" in (what.help() or "")
    of = one.manifest
    member = Member(
        name="m",
        net="m",
        spec_text="",
        spec_sha256="",
        average="scores",
        input=of.input,
        weights="m",
    )
    what, _ = wrong(Bundle(one.path, replace(of, members=(member,))), data=data)
    assert isinstance(what, fusion.HoldsProtocol)


@pytest.mark.parametrize("is_dynamic", [True, False])
def test_a_scale_below_the_window_is_said_before_anything_runs(
    tmp_path: Path, is_dynamic: bool
) -> None:
    data = open_labelled(write_pictures(tmp_path / "data"))
    net = bundle(tmp_path / "net", is_dynamic=is_dynamic, with_map=is_dynamic)
    protocol = recipe.TestProtocol(scales=(24, WINDOW - 1))
    what, path = wrong(net, data=data, protocol=protocol)
    assert isinstance(what, evaluating.ScaleBelowWindow)
    assert (what.scale, what.window, path) == (15, (16, 16), str(tmp_path / "net"))
    assert "--enlarge" in (what.help() or "")
    ask([net], [protocol], data, enlarge=True)
    ask([net], [replace(protocol, scales=(WINDOW,))], data)


def test_nets_are_called_so_that_they_can_be_told_apart(tmp_path: Path) -> None:
    data = open_labelled(write_pictures(tmp_path / "data"))
    a, b = bundle(tmp_path / "a"), bundle(tmp_path / "b", of=weights(1))
    other = bundle(tmp_path / "c", net="other")
    below = bundle(tmp_path / "below" / "a")

    def names(*bundles: Bundle) -> list[str]:
        question, _ = ask(bundles, [BOTH] * len(bundles), data)
        return [each.name for each in question.nets]

    assert names(a) == ["small"]
    assert names(a, other) == ["small", "other"]
    assert names(a, b) == ["a", "b"]
    assert names(a, below) == [str(a.path), str(below.path)]


def test_the_digest_changes_with_what_changes_an_answer(tmp_path: Path) -> None:
    data = open_labelled(write_pictures(tmp_path / "data"))
    net, other = bundle(tmp_path / "net"), bundle(tmp_path / "other", of=weights(1))
    question, _ = ask([net], [BOTH], data)

    def digest(**changes: Any) -> str:
        return replace(question, **changes).digest()

    assert digest() == question.digest() == pickle.loads(pickle.dumps(question)).digest()
    assert digest(threads=3, batch_pixels=1) == question.digest()
    changed = [
        digest(nets=ask([other], [BOTH], data)[0].nets),
        digest(nets=(replace(question.nets[0], protocol=replace(BOTH, flip=False)),)),
        digest(settings=table(question.nets)),
        digest(stamp="another"),
        digest(folder=tmp_path / "other"),
        digest(indices=question.indices[:3]),
        digest(classes=(0, 1, 2, 3)),
        digest(enlarge=True),
        digest(device="cpu"),
    ]
    assert len({question.digest(), *changed}) == 1 + len(changed)
    assert data.classes == FOLDERS
