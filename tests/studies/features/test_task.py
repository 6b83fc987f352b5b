"""A digest for each set of descriptors; images of several splits are numbered through."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.nets import SMALL, net, random_weights
from tests.training.folders import write_folder
from vggspec.base.fields import Fields
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.data.classed import open_classed
from vggspec.studies.features.descriptors import Combination
from vggspec.studies.features.task import Describing, stamp
from vggspec.studies.image_files import ImageFiles


@pytest.fixture
def task(tmp_path: Path) -> Describing:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions(layer="relu3"))
    write_folder(tmp_path / "data", train=2, val=1)
    return Describing(
        nets=((open_bundle(tmp_path / "b"), TestProtocol(scales=(36,))),),
        combination=Combination(),
        splits=tuple(each.images for each in open_classed(tmp_path / "data")),
    )


def test_images_are_numbered_through(task: Describing) -> None:
    np.testing.assert_array_equal(task.indices, np.arange(9))
    assert [task.place(index) for index in (0, 5, 6, 8)] == [(0, 0), (0, 5), (1, 0), (1, 2)]
    (last,) = task.results([8])
    (alone,) = replace(task, splits=task.splits[1:]).results([2])
    np.testing.assert_array_equal(last.descriptor, alone.descriptor)
    assert last.checksum == alone.checksum
    again = task.from_data(Fields(task.as_data(last)))
    assert again == replace(last, descriptor=None)


def test_what_changes_a_descriptor_changes_the_digest(task: Describing) -> None:
    ((bundle, protocol),) = task.nets
    others = [
        replace(task, nets=((bundle, TestProtocol(scales=(36, 40))),)),
        replace(task, nets=((bundle, protocol),) * 2),
        replace(task, combination=Combination(normalise=False)),
        replace(task, splits=task.splits[:1]),
        replace(task, splits=task.splits[::-1]),
        replace(task, device="cpu"),
    ]
    assert len({one.digest() for one in [task, *others]}) == 7
    assert replace(task, threads=3, batch_pixels=9).digest() == task.digest()


def test_images_are_known_by_path_size_and_time(task: Describing, tmp_path: Path) -> None:
    images = task.splits[0]
    before = stamp(images)
    assert stamp(images) == before
    path = Path(images.name(3))
    content, written = path.read_bytes(), path.stat().st_mtime_ns
    os.utime(path, ns=(written, written + 1))
    touched = stamp(images)
    path.write_bytes(content + b"\0")
    os.utime(path, ns=(written, written))
    longer = stamp(images)
    path.unlink()
    missing = stamp(images)
    assert len({before, touched, longer, missing}) == 4
    path.write_bytes(content)
    os.utime(path, ns=(written, written))
    assert stamp(images) == before


def test_images_of_the_same_names_elsewhere_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "1.png").write_bytes(b"same")
        os.utime(folder / "1.png", ns=(1, 1))
        monkeypatch.chdir(folder)
        stamps.add(stamp(ImageFiles.of(["1.png"])))
    assert len(stamps) == 2
