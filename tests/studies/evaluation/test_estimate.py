"""The cost that is counted before an evaluation runs."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.bundles import make, rewrite
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.estimate import MacCounter, Sample, mean_macs, samples
from vggspec.studies.evaluation.question import ask, plan


def test_the_cost_of_net_d_is_the_one_that_was_counted(tmp_path: Path, specs: Path) -> None:
    """GMAC for an image of 4:3: a crop 15.5, dense at 256 27.5, at 384 67.6, at 512 125.0."""
    made = make(tmp_path / "net").path
    text = (specs / "D.vgg").read_text("utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    spec = {"spec_text": text, "spec_sha256": digest}
    rewrite(made, {"net": "D", **spec, "input.size": [224, 224], "window": [224, 224]})
    (tmp_path / "data" / "val" / "ant").mkdir(parents=True)
    Image.new("RGB", (400, 300)).save(tmp_path / "data" / "val" / "ant" / "1.png")
    bundle = open_bundle(made)
    data = open_labelled(tmp_path / "data")
    protocol = TestProtocol(scales=(256, 384, 512), dense=True, crops=5)
    question, _ = ask([bundle], [protocol], data)
    counted = MacCounter(question)
    steps = plan(question, (300, 400))
    giga = {(step.look.scale, step.look.way): counted.of(step) / 1e9 for step in steps}
    for scale, expected in ((256, 27.5), (384, 67.6), (512, 125.0)):
        assert giga[scale, "dense"] / 2 == pytest.approx(expected, abs=0.05)
        assert giga[scale, "crops"] / 50 == pytest.approx(15.5, abs=0.05)
    dense = sum(value for (_, way), value in giga.items() if way == "dense")
    assert dense == pytest.approx(440, abs=0.5)
    assert sum(giga.values()) - dense == pytest.approx(2321, abs=1)
    assert samples(question) == [Sample((300, 400), 0)]
    macs = mean_macs(question, counted, [Sample((300, 400), 0), Sample((400, 300), 1)])
    assert macs == pytest.approx([1e9 * sum(giga.values())])
