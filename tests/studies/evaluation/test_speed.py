"""The speed on one image, and the time of a run that is estimated from it."""

from pathlib import Path

import pytest

from tests.runtime.bundles import make, weights
from tests.studies.evaluation.pictures import write_pictures
from vggspec.base import recipe
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.question import ask
from vggspec.studies.evaluation.speed import Speed, measure_speed


def test_each_net_is_tried_on_its_smallest_look(tmp_path: Path) -> None:
    protocols = [
        recipe.TestProtocol(scales=(30, 20), dense=True),
        recipe.TestProtocol(scales=(24,), dense=True, crops=2),
    ]
    made = [make(tmp_path / "a"), make(tmp_path / "b", of=weights(1))]
    data = open_labelled(write_pictures(tmp_path / "data", number=1, folders=("ant",)))
    question, _ = ask([open_bundle(each.path) for each in made], protocols, data, threads=3)
    speed = measure_speed(question, 0)
    assert speed is not None
    assert speed.sizes == ((20, 33), (16, 16))  # of 43 × 70 pixels; the window
    assert speed.device == "cpu"
    assert speed.threads == 3
    assert min(*speed.input_s, speed.preparing_s) > 0


def test_an_image_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "data", number=1, folders=("ant",))
    (root / "val/ant/0.png").write_bytes(b"no picture")
    protocol = recipe.TestProtocol(scales=(20,), dense=True)
    bundle = open_bundle(make(tmp_path / "net").path)
    question, _ = ask([bundle], [protocol], open_labelled(root))
    assert measure_speed(question, 0) is None


@pytest.mark.parametrize(("device", "expected"), [("cpu", 2.0 + 3.0 + 0.5), ("cuda", 5.0)])
def test_time_follows_from_arithmetic_and_threads(device: str, expected: float) -> None:
    speed = Speed(
        device=device,  # type: ignore[arg-type]
        sizes=((10, 10), (10, 20)),
        input_s=(0.5, 1.0),
        preparing_s=2.0,
        threads=4,
    )
    # The first net takes 400 MACs for an image and 100 for an input, the second 600 and 200.
    assert speed.image_s(lambda _, size: size[0] * size[1], (400, 600)) == expected


def test_a_gpu_waits_where_images_are_slow_to_read() -> None:
    speed = Speed(device="cuda", sizes=((1, 1),), input_s=(0.1,), preparing_s=4.0, threads=2)
    assert speed.image_s(lambda *_: 1, (10,)) == 2.0
