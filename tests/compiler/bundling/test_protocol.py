"""Bundles whose graph holds the test protocol: what may be fused, and what the manifest says."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.nets import net, random_weights
from tests.refusals import refused
from tests.runtime.bundles import rewrite
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling import deepstream, triton
from vggspec.compiler.bundling.net import member_of
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import Metadata, WeightsFile, open_weights, save

RGB = "RGB(mean 120 115 100, std 58 57 56)"
BODY = "conv3-4\nmaxpool\nFC-5\nsoft-max"
Net = tuple[Lowered, WeightsFile]


def made(
    folder: Path,
    *,
    name: str = "t",
    colour: str = RGB,
    body: str = BODY,
    test: str = "",
    labels: tuple[str, ...] | None = None,
    seed: int = 0,
) -> Net:
    lowered = net(f"net {name}\ninput 16x16 {colour}\n{body}\n{test}")
    weights = random_weights(lowered, folder / f"{name}-{seed}.safetensors", seed)
    if labels is not None:
        arrays = {each: weights.read(each) for each in weights.tensors}
        save(folder / f"{name}-{seed}-labelled.safetensors", arrays, Metadata(labels=labels))
        weights = open_weights(folder / f"{name}-{seed}-labelled.safetensors")
    return lowered, weights


def write(folder: Path, nets: list[Net], options: CompileOptions | None = None) -> Manifest:
    write_protocol_bundle(nets, folder / "b", options or CompileOptions())
    return open_bundle(folder / "b", deep=True).manifest


def refusal(folder: Path, nets: list[Net]) -> str:
    before = sorted(folder.iterdir())
    with pytest.raises(VggspecError) as error:
        write(folder, nets)
    assert sorted(folder.iterdir()) == before, "nothing is left"
    (report,) = error.value.reports
    assert report.what.help()
    return f"{report.what.code} {report.path}: {report.what.title()}"


def test_one_net(tmp_path: Path) -> None:
    labels = ("ant", "bee", "cat", "dog", "eel")
    manifest = write(tmp_path, [made(tmp_path, name="D", labels=labels, test="test:\n  flip off")])
    assert (manifest.net, manifest.labels, manifest.form) == ("D", labels, "dense")
    assert (manifest.input.contract, manifest.input.name) == ("picture", "picture")
    assert manifest.input.size == (16, 16)
    assert not manifest.test.flip
    (member,) = manifest.members
    assert (member.name, member.weights) == ("D", "1/model.safetensors")
    assert member.input.mean == (120, 115, 100)
    assert {entry.path for entry in manifest.files} == {"1/model.onnx", "1/model.safetensors"}
    lowered = net(f"net D\ninput 16x16 {RGB}\n{BODY}")
    rebuilt = member_of(open_bundle(tmp_path / "b"), member)
    assert [param.name for param in rebuilt.params()] == [
        param.name for param in lowered.network.params()
    ]


def test_several_nets(tmp_path: Path) -> None:
    """Those of one name are told apart, also where file names have no cases."""
    nets = [
        made(tmp_path, name="D", seed=0),
        made(tmp_path, name="d", seed=1),
        made(tmp_path, name="D", seed=2, labels=tuple("abcde")),
        made(tmp_path, name="E", colour="BGR(mean 1 2 3)", seed=3, body=f"conv3-2 {BODY}"),
    ]
    manifest = write(tmp_path, nets)
    assert manifest.net == "D+d-2+D-3+E"
    assert manifest.labels == tuple("abcde")
    assert [member.net for member in manifest.members] == ["D", "d", "D", "E"]
    assert [member.input.color for member in manifest.members] == ["RGB", "RGB", "RGB", "BGR"]
    for member, (_, weights) in zip(manifest.members, nets, strict=True):
        path = tmp_path / "b" / member.weights
        assert path.name == f"{member.name}.safetensors"
        assert (
            os.path.samefile(path, weights.path) or path.read_bytes() == weights.path.read_bytes()
        )


def test_a_manifest_survives_the_way_through_its_file(tmp_path: Path) -> None:
    nets = [made(tmp_path, seed=seed) for seed in range(2)]
    written = write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    assert written.manifest == open_bundle(tmp_path / "b").manifest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("members", []),
        ("members", None),
        ("members", 3),
        ("input.contract", "raw"),
        ("input.contract", "film"),
        ("input.is_dynamic", False),
        ("input.color", "BGR"),
        ("options.form", "crop"),
        ("outputs.0.kind", "scores"),
        ("outputs.0.is_map", True),
        ("members.0.weights", "1/other.safetensors"),
        ("members.0.weights", "../model.safetensors"),
        ("members.0.average", "all"),
        ("members.0.input.contract", "picture"),
        ("members.0.input.mean", [1.0]),
        ("members.0.name", None),
        ("members.0.spec_text", 1),
    ],
)
def test_a_damaged_manifest_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    write(tmp_path, [made(tmp_path)])
    rewrite(tmp_path / "b", {key: value})
    with pytest.raises(VggspecError) as error:
        open_bundle(tmp_path / "b")
    assert error.value.reports[0].what.code == "VGG522"


def test_other_labels_are_not_fused(tmp_path: Path) -> None:
    nets = [
        made(tmp_path, name="D", labels=tuple("abcde")),
        made(tmp_path, name="E", labels=tuple("abdce"), seed=1),
    ]
    said = refusal(tmp_path, nets)
    assert said == "VGG670 net E: class 2 is `d` here and `c` in net `D`: they cannot be fused"


def test_another_number_of_classes_is_not_fused(tmp_path: Path) -> None:
    nets = [made(tmp_path), made(tmp_path, name="E", body=BODY.replace("FC-5", "FC-6"))]
    assert "VGG671 net E: it has 6 classes and net `t` has 5" in refusal(tmp_path, nets)


@pytest.mark.parametrize(
    ("body", "gives"),
    [
        ("conv3-4\nmaxpool\nFC-5(linear)", "scores"),
        ("conv3-4\nmaxpool\nFC-8(linear)\nboxes(per-class)", "boxes"),
    ],
)
def test_what_gives_no_posteriors_is_refused(body: str, gives: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, [made(tmp_path, body=body)]).endswith(f"this net gives {gives}")
    assert "VGG672 net E" in refusal(
        tmp_path, [made(tmp_path), made(tmp_path, name="E", body=body)]
    )


def test_gray_and_colour_are_not_fused(tmp_path: Path) -> None:
    nets = [made(tmp_path), made(tmp_path, name="E", colour="gray(mean 99)")]
    assert "VGG673 net E" in refusal(tmp_path, nets)


def test_mirror_images_are_averaged_in_for_all_or_none(tmp_path: Path) -> None:
    nets = [made(tmp_path), made(tmp_path, name="E", test="test:\n  flip off")]
    assert "VGG674 net E" in refusal(tmp_path, nets)
    for flip in (True, False):
        assert write(tmp_path, nets, CompileOptions(flip=flip)).test.flip is flip


def test_crops_are_refused_unless_density_is_asked_for(tmp_path: Path) -> None:
    one = made(tmp_path, test="test:\n  crops 5x5")
    assert "VGG675 net t" in refusal(tmp_path, [one])
    test = write(tmp_path, [one], CompileOptions(form="dense")).test
    assert (test.dense, test.crops) == (True, None)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    lowered, _ = made(tmp_path)
    _, other = made(tmp_path, name="E", body=BODY.replace("FC-5", "FC-6"))
    assert "VGG503" in refusal(tmp_path, [(lowered, other)])


def test_only_a_bundle_is_replaced(tmp_path: Path) -> None:
    one = made(tmp_path)
    write(tmp_path, [one])
    (tmp_path / "b/stale").write_text("x")
    write(tmp_path, [one])
    assert not (tmp_path / "b/stale").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with refused("VGG512"):
        write_protocol_bundle([one], tmp_path / "mine", CompileOptions())


def test_the_papers_mean_is_each_nets_own(tmp_path: Path) -> None:
    """Neither spec nor weights say one: that of ILSVRC, in the order of the channels."""
    nets = [made(tmp_path, colour="RGB"), made(tmp_path, name="E", colour="BGR")]
    written = write_protocol_bundle(nets, tmp_path / "b", CompileOptions())
    assert written.mean_from == ("ILSVRC", "ILSVRC")
    first, second = (member.input.mean for member in written.manifest.members)
    assert first == second[::-1] == (123.68, 116.779, 103.939)


def test_servers(tmp_path: Path) -> None:
    """DeepStream gives a net no pictures; of Triton see test_triton.py."""
    manifest = write(tmp_path, [made(tmp_path, labels=tuple("abcde"))])
    assert deepstream.why_not(manifest) is not None
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {"1", "manifest.json", triton.CONFIG, triton.LABELS}
