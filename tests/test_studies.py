"""The studies in miniature: their nets, what they count, and that nothing is done twice."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")
pytest.importorskip("torch")

from benchmarks import localisation_in_miniature as localisation
from benchmarks import maps_in_miniature as maps
from benchmarks import paper_in_miniature as paper
from benchmarks import shapes
from benchmarks.laboratory import Effort, Laboratory, percent, record
from tests.cli.run import vggspec
from tests.training.folders import TINY, write_folder
from vggspec.cli import run
from vggspec.compiler.cost import cost
from vggspec.compiler.lower import load_network

LITTLE = Effort(epochs=1, train=2, val=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laboratory")
    return Laboratory(folder).draw(LITTLE, localisation.LAYOUT)


def test_the_miniature_has_the_papers_depths_and_the_classes() -> None:
    networks = [load_network(f"{paper.SPEC}:{net}").network for net in "ABCDE"]
    assert [len(network.weight_layers) for network in networks] == [11, 13, 16, 16, 19]
    assert {network.num_classes for network in networks} == {len(shapes.CLASSES)}


def test_nets_with_shortcuts_differ_from_columns_in_nothing_else() -> None:
    """The same recipe, weights and arithmetic; of ResNet-18 and its column at least the MACs."""
    plain = load_network(f"{paper.SPEC}:E")
    found = {name: load_network(f"{paper.GRAPHS}:{name}") for name in paper.GRAPH_NETS}
    for lowered in found.values():
        assert lowered.experiment == plain.experiment
        assert lowered.network.input == plain.network.input
    for one, other in (
        (plain, found["E-shortcut"]),
        (found["E-BN"], found["E-BN-shortcut"]),
    ):
        weights = [[param.stored for param in each.network.params()] for each in (one, other)]
        assert weights[0] == weights[1]
        assert cost(one.network).macs == cost(other.network).macs
    macs = [cost(found[name].network).macs for name in ("ResNet-18", "column")]
    assert macs[1] == pytest.approx(macs[0], rel=0.01)


def test_the_paper_s_tables_say_what_was_seen() -> None:
    seen = [
        paper.Seen(at_one_scale=0.25, at_several=0.2, learns_from=3),
        paper.Seen(at_one_scale=0.35, at_several=0.2, learns_from=None),
    ]
    text = paper.tables({s: seen for table in paper.TABLES.values() for s in table})
    assert (
        "| D | 37..73 | A, the rest he | 55 | 30.0 ± 7.1 % | 37, 55, 73 | 20.0 ± 0.0 % | 3, none |"
        in text.splitlines()
    )


def test_the_tables_of_localisation_say_what_was_seen() -> None:
    def seen(error: float) -> dict[str, dict[str, float]]:
        """A dense error is five points more than a central one, and top-5 ten more than that."""
        found = {net: {kind: error} for net, kind in localisation.TRAINED if kind != "top-5"}
        found[localisation.CLASSIFIER]["top-5"] = error / 2
        for setting in (*localisation.PROTOCOLS, *localisation.THRESHOLDS):
            found[setting.name] = {"class_given_error": error}
            if setting.is_dense:
                dense = {"class_given_error": 0.05, "top5_error": 0.15, "top1_error": 0.5}
                found[setting.name] = {key: error + more for key, more in dense.items()}
        return found

    lines = localisation.tables([seen(0.1), seen(0.2)], {"class_given_error": 0.8}).splitlines()
    for expected in (
        "| the same for every picture | central, no mirror image | 80.0 % |  |  |",
        "| per class | central | 15.0 ± 7.1 % |  |  |",
        "| shared | dense, Q 37, 48 | 20.0 ± 7.1 % | 30.0 ± 7.1 % | 65.0 ± 7.1 % |",
        "| 0.9 | 20.0 ± 7.1 % | 30.0 ± 7.1 % | 65.0 ± 7.1 % |",
        "| shapes | top-5 | 7.5 ± 3.5 % |",
    ):
        assert lines.count(expected) == 1, expected


def test_settings_have_names_of_their_own() -> None:
    """By which what was found is kept."""
    settings = {localisation.SAME_BOX, *localisation.PROTOCOLS, *localisation.THRESHOLDS}
    assert len({setting.name for setting in settings}) == len(settings)


def test_one_training_has_no_spread() -> None:
    assert (percent([0.25]), percent([0.25, 0.35])) == ("25.0 %", "30.0 ± 7.1 %")


def test_the_constant_net_says_the_mean_box(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By VOC's annotations, and the middle 32 pixels at Q 37 counted again."""
    network = load_network(f"{localisation.SPEC}:{localisation.SHARED}").network
    coco = json.loads((pictures / "annotations/instances_train.json").read_text())
    boxes = {one["image_id"]: one["bbox"] for one in coco["annotations"]}
    said = np.mean([in_the_middle(one, boxes[one["id"]]) for one in coco["images"]], axis=0)
    assert localisation.mean_box(network, pictures) == pytest.approx(said, abs=1e-6)

    weights, bundle = tmp_path / "constant.safetensors", tmp_path / "constant"
    localisation.write_constant(weights, network, pictures)
    spec = f"{localisation.SPEC}:{localisation.SHARED}"
    assert run(["compile", spec, "--weights", str(weights), "-o", str(bundle)]) == 0
    image = tmp_path / "square.png"  # at Q 37 its middle is 32 of 37 pixels, 2 from the edges
    Image.fromarray(np.full((74, 74, 3), 90, np.uint8)).save(image)
    capsys.readouterr()
    assert run(["localise", str(bundle), str(image), "--no-flip", "--device", "cpu", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    middle, extent = 4 + 64 * (said[:2] + 0.5), 64 * said[2:]
    expected = [*(middle - extent / 2), *(middle + extent / 2)]
    assert found["boxes"][0]["box"] == pytest.approx(expected, abs=1e-3)


def in_the_middle(image: dict[str, int], box: Sequence[float]) -> list[float]:
    """Centre and size of a box as a net says them of the middle 32 × 32 pixels at Q 37."""
    said = []
    for axis, side in enumerate((image["width"], image["height"])):
        rescaled = round(37 * side / min(image["width"], image["height"]))
        near, extent = (box[i] * rescaled / side for i in (axis, 2 + axis))
        said.append(((near + extent / 2 - (rescaled - 32) // 2) / 32 - 0.5, extent / 32))
    (x, width), (y, height) = said
    return [x, y, width, height]


def test_pictures_are_drawn_once(pictures: Path) -> None:
    mark = pictures / "mark"
    mark.touch()
    assert Laboratory(pictures.parent).draw(LITTLE) == pictures
    assert mark.exists()
    mark.unlink()
    assert len(list(pictures.glob("train/*/*.jpg"))) == 2 * len(shapes.CLASSES)


class Quick(Laboratory):
    """Runs commands in forks of a process that has loaded the libraries."""

    def vggspec(self, *words: str, within: Path | None = None) -> str:
        done = vggspec(*words, cwd=within or self.root)
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_a_training_goes_on_where_it_was_cut_off_and_is_not_done_again(tmp_path: Path) -> None:
    laboratory = Quick(tmp_path)
    data, training = write_folder(tmp_path / "images"), tmp_path / "run"
    spec = tmp_path / "tiny.vgg"
    spec.write_text(TINY)
    laboratory.trained(str(spec), training, data, 0, [Effort(epochs=1).stop])
    cut_off = record(training)
    cut_off["result"]["was_stopped"] = True  # as it reads while a training runs
    (training / "run.json").write_text(json.dumps(cut_off))

    best = laboratory.trained(str(spec), training, data, 0, [Effort(epochs=2).stop])
    entries = map(json.loads, (training / "log.jsonl").read_text().splitlines())
    assert [entry["epoch"] for entry in entries if "validation" in entry] == [1, 2]

    spec.unlink()  # so that another training would fail
    assert laboratory.trained(str(spec), training, data, 0, []) == best
    assert best.is_file()


def test_a_failing_command_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"vggspec show none\.vgg … ended with 1"):
        Laboratory(tmp_path).vggspec("show", "none.vgg")
    assert "none.vgg" in capsys.readouterr().err


def test_heads_of_label_maps_share_a_trunk() -> None:
    """Their skips cost next to nothing; a U-Net with as many channels takes three times as much."""
    nets = {name: load_network(f"{maps.SPEC}:{name}").network for name in maps.NETS}
    trunks = [
        [layer.op for layer in net.layers[: [x.name for x in net.layers].index("pool5") + 1]]
        for net in nets.values()
    ]
    assert all(trunk == trunks[0] for trunk in trunks)
    macs = [cost(net).macs for net in nets.values()]
    assert max(macs[:3]) < 1.01 * min(macs[:3])
    assert macs[3] > 2 * macs[0]
    assert {net.num_classes for net in nets.values()} == {len(shapes.LABELS)}


def test_the_table_of_label_maps() -> None:
    found = {
        (net, seed): {"mean_iou": 0.5 + seed / 10, "pixel_accuracy": 0.9, "seconds": 7.0 + seed}
        for net in maps.NETS
        for seed in (0, 1)
    }
    lines = maps.table(found, 2).splitlines()
    assert len(lines) == 2 + len(maps.NETS)
    assert lines[2] == "| FCN-32s | 34.4 M | 55.0 ± 7.1 % | 90.0 ± 0.0 % | 8 |"
