"""One call evaluates nets: as in a notebook, without the command line."""

import json
from pathlib import Path

import pytest

from tests.runtime.bundles import make, weights
from tests.studies.evaluation.pictures import write_pictures
from tests.studies.tasks.test_work import Heard
from vggspec.base.recipe import TestProtocol
from vggspec.studies.evaluation.evaluate import Evaluation, Request, evaluate, protocol_of


class Facts(Heard):
    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, str] = {}

    def about(self, topic: str, text: str) -> None:
        self.facts[topic] = text


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data")


def test_it_returns_errors_and_every_image(tmp_path: Path, data: Path) -> None:
    net = make(tmp_path / "net").path
    heard = Facts()
    found = evaluate(net, data, scales=[17, 24], report=tmp_path / "report", watch=heard)
    assert len(found.results) == found.tally.images == 20
    assert found.top1_error == sum(one.ranks[0] > 0 for one in found.results) / 20
    assert found.top5_error <= found.top1_error
    (setting,) = found.settings
    assert (setting.nets, setting.scales, setting.ways) == ("small", "17, 24", "dense")
    assert found.left_out == ()
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == json.loads(
        json.dumps(found.as_data())
    )
    assert found.as_data()["nets"][0]["bundle"] == str(net)
    assert heard.facts["data"] == f"{data / 'val'}, 20 images of 4 classes"
    assert heard.facts["report"] == str(tmp_path / "report" / "index.html")
    assert heard.now[-1].done == 20
    assert heard.now[-1].details[0] == f"error {found.top1_error:.2%}"


def test_several_processes_and_nets_change_nothing(tmp_path: Path, data: Path) -> None:
    nets = [make(tmp_path / "a").path, make(tmp_path / "b", of=weights(1)).path]
    one = evaluate(nets, data, scales=(24,), table=True)
    two = evaluate(nets, data, scales=(24,), table=True, procs=2)
    assert one.as_data() == two.as_data()
    assert [each.nets for each in one.settings] == ["a", "b", "a + b"]


def test_a_result_that_cannot_be_used_is_kept(tmp_path: Path, data: Path) -> None:
    """Such as one whose printing fails."""
    net = make(tmp_path / "net").path

    def full(_found: Evaluation) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        evaluate(net, data, finish=full)
    heard = Facts()
    found = evaluate(net, data, resume=True, watch=heard)
    assert heard.notes == ["20 of 20 images were done before"]
    assert [now.done for now in heard.now] == [20]
    assert found.as_data() == evaluate(net, data).as_data()


@pytest.mark.parametrize(
    ("test", "dense", "crops", "expected"),
    [
        (TestProtocol(scales=(24,)), None, None, (True, None)),
        (TestProtocol(scales=(24,), dense=False, crops=3), None, None, (False, 3)),
        (TestProtocol(scales=(24,)), None, 3, (False, 3)),
        (TestProtocol(scales=(24,)), True, 3, (True, 3)),
        (TestProtocol(scales=(24,), dense=False, crops=3), True, None, (True, None)),
        (TestProtocol(scales=(24,), dense=True, crops=3), False, None, (False, 3)),
        (TestProtocol(scales=(24,)), False, None, (False, 1)),
    ],
)
def test_what_is_not_requested_comes_from_the_spec(
    tmp_path: Path,
    test: TestProtocol,
    dense: bool | None,
    crops: int | None,
    expected: tuple[bool, int | None],
) -> None:
    manifest = make(tmp_path / "net", test=test).manifest
    request = Request(bundles=(), data="", dense=dense, crops=crops)
    protocol = protocol_of(manifest, request)
    assert (protocol.dense, protocol.crops) == expected
    assert (protocol.scales, protocol.flip) == (test.scales, test.flip)
