"""``vggspec features``: what is written, of which images, and what is said where it cannot be."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nets import SMALL, net, random_weights
from tests.training.folders import HUES, write_annotated, write_folder
from vggspec.base.recipe import TestProtocol
from vggspec.base.watcher import Progress
from vggspec.bundle.manifest import WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.cli.progress import Shown
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.runtime.net import BundleNet
from vggspec.studies.features.descriptors import Combination, Described, describe
from vggspec.studies.features.file import FeaturesWriter, open_features
from vggspec.studies.pipeline import Applied
from vggspec.studies.tasks.journal import Journal

SPEC = f"{SMALL}\ntest:\n  scale 36\n"

Done = tuple[int, str, str]


@pytest.fixture
def features(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def call(*args: object) -> Done:
        code = run(["features", *map(str, args), "--device", "cpu", "--threads", "1"])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def bundle(folder: Path, seed: int = 0, **options: Any) -> Path:
    lowered = net(SPEC)
    weights = random_weights(lowered, folder / f"w{seed}", seed)
    out = folder / f"b{seed}"
    write_bundle(lowered, weights, out, CompileOptions(**options))
    return out


def directly(path: Path, files: list[Path], protocol: TestProtocol, **how: Any) -> Any:
    """The descriptors of files, by a bundle that was compiled up to the layer."""
    with BundleNet(path, device="cpu") as loaded:
        found = describe(
            [Applied(loaded, protocol)],
            lambda i: files[i].read_bytes(),
            range(len(files)),
            Combination(**how),
        )
        return np.stack([one.descriptor for one in found if one.descriptor is not None])


def test_both_splits_are_written(tmp_path: Path, features: Any) -> None:
    data = write_folder(tmp_path / "data", train=3, val=2)
    made = bundle(tmp_path)
    code, out, err = features(made, "--data", data, "-o", tmp_path / "f")
    assert (code, out) == (0, f"{tmp_path / 'f'}\n")
    assert "small up to relu3, Q 36, with the mirror image" in err
    assert "15 images × 24 numbers" in " ".join(err.split())  # however it is wrapped
    found = open_features(tmp_path / "f")
    assert found.classes == tuple(sorted(HUES))
    entry = next(e for e in open_bundle(made).manifest.files if e.path == WEIGHTS)
    (of_net,) = found.settings["nets"]
    assert of_net == {
        "net": "small",
        "layer": "relu3",
        "numbers": 24,
        "scales": [36],
        "flip": True,
        "resize": "rounded",
        "sha256": entry.sha256,
    }
    up_to = tmp_path / "up to"
    lowered = net(SPEC)
    weights = random_weights(lowered, tmp_path / "w")
    write_bundle(lowered, weights, up_to, CompileOptions(layer="relu3"))
    for name, number in (("train", 3), ("val", 2)):
        split = found.splits[name]
        assert split.names is not None
        files = [Path(name) for name in split.names]
        assert [file.parent.name for file in files] == sorted(list(HUES) * number)
        np.testing.assert_array_equal(split.labels, np.repeat(np.arange(3), number))
        wanted = directly(up_to, files, TestProtocol(scales=(36,)))
        np.testing.assert_array_equal(split.features, wanted)
        np.testing.assert_allclose(np.linalg.norm(split.features, axis=1), 1, rtol=1e-6)
    # A bundle that was compiled up to a layer is taken as it is.
    assert features(up_to, "--data", data, "-o", tmp_path / "g")[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()
    # And the folder of the variant is gone.
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_layers_scales_and_nets(tmp_path: Path, features: Any) -> None:
    data = write_folder(tmp_path / "data", train=2, val=1)
    one, other = bundle(tmp_path), bundle(tmp_path, seed=1, form="crop")
    options = ["--layer", "conv2_1", "--scales", "32,40", "--combine", "stack", "--no-flip"]
    options += ["--no-normalise", "--split", "val"]
    code, _, err = features(one, other, "--data", data, *options, "-o", tmp_path / "f")
    assert code == 0, err
    found = open_features(tmp_path / "f")
    assert list(found.splits) == ["val"]
    split = found.splits["val"]
    assert split.names is not None
    assert split.features.shape == (3, 2 * 2 * 16)
    assert (found.settings["combine"], found.settings["normalise"]) == ("stack", False)
    parts = []
    for seed in (0, 1):
        lowered = net(SPEC)
        weights = random_weights(lowered, tmp_path / f"w{seed}", seed)
        write_bundle(lowered, weights, tmp_path / f"c{seed}", CompileOptions(layer="conv2_1"))
        protocol = TestProtocol(scales=(32, 40), flip=False)
        files = [Path(name) for name in split.names]
        how = {"over_scales": "stack", "normalise": False}
        parts.append(directly(tmp_path / f"c{seed}", files, protocol, **how))
    np.testing.assert_array_equal(split.features, np.concatenate(parts, axis=1))


def test_images_of_no_class(tmp_path: Path, features: Any) -> None:
    data = write_folder(tmp_path / "data", train=2, val=1)
    named = sorted((data / "val").rglob("*.png"))
    (data / "val" / "notes.txt").write_text("no picture")
    code, _, err = features(
        bundle(tmp_path), "--images", named[1], "--images", data / "val", "-o", tmp_path / "f"
    )
    assert code == 0, err
    found = open_features(tmp_path / "f")
    split = found.splits["images"]
    assert split.labels is found.classes is None
    assert split.names == tuple(map(str, [named[1], *named]))
    np.testing.assert_array_equal(split.features[0], split.features[2])


def test_classes_of_objects(tmp_path: Path, features: Any) -> None:
    data = write_annotated(tmp_path / "data", train=4, val=2)
    assert features(bundle(tmp_path), "--data", data, "-o", tmp_path / "f")[0] == 0
    train = open_features(tmp_path / "f").splits["train"]
    assert train.labels is not None
    assert train.labels.shape == (12, 3)
    assert train.labels.dtype == np.uint8


def test_a_few_bad_images_are_left_out_and_named(tmp_path: Path, features: Any) -> None:
    data = write_folder(tmp_path / "data", train=67, val=2)
    made = bundle(tmp_path)
    name = sorted(HUES)[1]
    bad = [data / "train" / name / f"{i}.png" for i in (3, 5)]
    for path in bad:
        path.write_text("no picture")
    code, _, err = features(made, "--data", data, "-o", tmp_path / "f", "--layer", "conv1_1")
    assert code == 0, err
    assert "train: 2 images could not be read, left out:\n" in err
    assert f"{bad[0]}: " in err
    train = open_features(tmp_path / "f").splits["train"]
    assert train.names is not None
    assert train.labels is not None
    assert len(train.features) == len(train.names) == 199
    assert not {str(path) for path in bad} & set(train.names)
    assert [int((train.labels == k).sum()) for k in range(3)] == [67, 65, 67]
    (data / "train" / name / "7.png").write_bytes(b"")
    code, out, err = features(made, "--data", data, "-o", tmp_path / "g", "--layer", "conv1_1")
    assert (code, out) == (1, "")
    assert "VGG426" in err
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "either `--data DIR` or"),
        (["--data", "d", "--images", "i"], "either `--data DIR` or"),
        (["--images", "i", "--split", "val"], "`--data DIR`"),
        (["--data", "d", "--scales", "0"], "is not sizes"),
        (["--data", "d", "--combine", "max"], "--combine"),
    ],
)
def test_wrong_usage(args: list[str], words: str, features: Any, tmp_path: Path) -> None:
    code, out, err = features(bundle(tmp_path), *args)
    assert (code, out) == (2, "")
    assert words in err


def test_a_folder_without_images_is_wrong_usage(features: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = features(bundle(tmp_path), "--images", tmp_path / "empty")
    assert code == 2
    assert "no images" in err


@pytest.mark.parametrize(
    ("args", "code", "advice"),
    [
        (["--layer", "conv9_9"], "VGG663", ""),
        (["--scales", "31"], "VGG692", "give `--scales 32` or more\n"),
        (["--split", "test"], "VGG696", "name one by `--split train`"),
    ],
)
def test_wrong_input(
    args: list[str], code: str, advice: str, features: Any, tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "data", train=2, val=1)
    exit_code, out, err = features(bundle(tmp_path), "--data", data, *args, "-o", tmp_path / "f")
    assert (exit_code, out) == (1, "")
    assert f"error[{code}]" in err
    assert advice in err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    "target", ["b0/1/model.onnx", "b0/manifest.json", "data/val/{}/0.png", "link/0.png", "w0"]
)
def test_no_file_that_is_read_is_written_over(target: str, features: Any, tmp_path: Path) -> None:
    data, made = write_folder(tmp_path / "data", train=1, val=1), bundle(tmp_path)
    label = min(HUES)
    (tmp_path / "link").symlink_to(data / "val" / label)
    (made / "weights.link").hardlink_to(tmp_path / "w0")
    out = tmp_path / target.format(label)
    before = out.read_bytes()
    code, printed, err = features(made, "--data", data, "-o", out)
    assert (code, printed) == (2, "")
    assert "is a file that is read; name another one" in " ".join(err.split())
    assert out.read_bytes() == before


def test_an_earlier_file_in_the_folder_of_the_data_is_replaced(
    features: Any, tmp_path: Path
) -> None:
    data, made = write_folder(tmp_path / "data", train=1, val=1), bundle(tmp_path)
    for _ in range(2):
        assert features(made, "--data", data, "-o", data / "features.safetensors")[0] == 0


def test_a_folder_in_the_way_is_told_before_anything_is_done(features: Any, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    code, out, err = features("missing", "--data", tmp_path, "-o", tmp_path / "f")
    assert (code, out) == (1, "")
    assert "VGG512" in err
    assert list(tmp_path.rglob("*")) == [tmp_path / "f"]


def test_a_bundle_without_its_weights_says_what_to_type(features: Any, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", train=2, val=1)
    made = bundle(tmp_path, single_file=True)
    code, _, err = features(made, "--data", data, "-o", tmp_path / "f")
    assert code == 1
    assert "VGG665" in err
    assert "--layer relu3" in err


def hidden(folder: Path) -> list[Path]:
    """What is kept of a file that is being written: the journal, and the part there is."""
    return sorted(path for path in folder.iterdir() if path.name.startswith(".f."))


def with_bad_images(folder: Path) -> Path:
    """Two splits of 303 and 3 images, of which the 2nd and the 303rd cannot be read."""
    data = write_folder(folder, train=101, val=1)
    first, *_, last = sorted(HUES)
    (data / "train" / first / "1.png").write_bytes(b"")
    (data / "train" / last / "99.png").write_bytes(b"")
    return data


def test_processes_and_batches_change_no_byte(tmp_path: Path, features: Any) -> None:
    data, made = with_bad_images(tmp_path / "data"), bundle(tmp_path)
    args = [made, "--data", data, "--layer", "conv1_1"]
    assert features(*args, "-o", tmp_path / "whole")[0] == 0
    for name, more in (("f", ["--procs", 3]), ("g", ["--batch", 1])):
        code, _, err = features(*args, "-o", tmp_path / name, *more)
        assert code == 0, err
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole").read_bytes()
        assert "train: 2 images could not be read, left out:" in err
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("first", "lines", "octets", "kept"),
    [
        (2, 0, 0, 2),  # the second one could not be read
        (9, 0, 1, 8),  # a row is torn
        (9, 5, 0, 8),  # a line is torn
        (9, 0, 40, 7),  # more than a row is lost
        (306, 0, 0, 306),  # all, in the second split
    ],
)
def test_interrupted_and_resumed_is_as_if_it_had_not_been(
    tmp_path: Path,
    features: Any,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    lines: int,
    octets: int,
    kept: int,
) -> None:
    data, made = with_bad_images(tmp_path / "data"), bundle(tmp_path)
    args = [made, "--data", data, "--layer", "conv1_1", "-o", tmp_path / "f"]
    assert features(*args)[0] == 0
    whole = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_text("before")
    count = 0

    def counted(self: Journal[Described], result: Described) -> None:
        nonlocal count
        add(self, result)
        count += 1

    def heard(self: Shown, now: Progress) -> None:
        progress(self, now)
        if now.done == first:
            raise KeyboardInterrupt

    add = Journal.add
    monkeypatch.setattr(Journal, "add", counted)
    progress = Shown.progress
    monkeypatch.setattr(Shown, "progress", heard)
    code, out, err = features(*args)
    assert (code, out, count) == (130, "", first)
    assert err.splitlines()[-1] == f"interrupted after {first} of 306 images; --resume continues"
    assert (tmp_path / "f").read_text() == "before"
    journal, part = hidden(tmp_path)
    for path, cut in ((journal, lines), (part, octets)):
        path.write_bytes(path.read_bytes()[: -cut or None])
    monkeypatch.undo()
    # With other settings it begins from the start, and leaves this part alone.
    code, _, err = features(*args[:-1], tmp_path / "f", "--no-flip", "--resume")
    assert (code, "none of 306 images were done before" in err) == (0, True)
    assert (tmp_path / "f").read_bytes() != whole
    assert hidden(tmp_path) == [journal, part]
    code, _, err = features(*args, "--resume")
    assert (code, f"{kept} of 306 images were done before" in err) == (0, True)
    assert (tmp_path / "f").read_bytes() == whole
    assert hidden(tmp_path) == []


def test_without_resume_it_begins_from_the_start(
    tmp_path: Path, features: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = write_folder(tmp_path / "data", train=2, val=1), bundle(tmp_path)
    args = [made, "--data", data, "-o", tmp_path / "f"]
    assert features(*args)[0] == 0
    whole = (tmp_path / "f").read_bytes()
    monkeypatch.setattr(FeaturesWriter, "add", stopping(FeaturesWriter.add))
    assert features(*args)[0] == 130
    monkeypatch.undo()
    _, part = hidden(tmp_path)
    part.write_bytes(part.read_bytes() + bytes(100_000))  # longer than what it will be
    code, _, err = features(*args)
    assert (code, "done before" in err) == (0, False)
    assert (tmp_path / "f").read_bytes() == whole
    assert hidden(tmp_path) == []


def stopping(add: Any) -> Any:
    """``FeaturesWriter.add``, interrupted at the third image."""

    def stopped(self: FeaturesWriter, *args: Any) -> None:
        add(self, *args)
        if self.rows["train"].number == 3:
            raise KeyboardInterrupt

    return stopped


def test_other_images_of_the_same_names_start_a_new_run(
    tmp_path: Path, features: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = write_folder(tmp_path / "data", train=2, val=1), bundle(tmp_path)
    args = [made, "--data", data, "-o", tmp_path / "f"]
    monkeypatch.setattr(FeaturesWriter, "add", stopping(FeaturesWriter.add))
    assert features(*args)[0] == 130
    monkeypatch.undo()
    image = next((data / "train").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert "none of 9 images were done before" in features(*args, "--resume")[2]


def test_what_cannot_be_gone_on_with_leaves_nothing(tmp_path: Path, features: Any) -> None:
    data, made = write_folder(tmp_path / "data", train=2, val=1), bundle(tmp_path)
    (data / "train" / sorted(HUES)[2] / "1.png").write_bytes(b"")  # the last one of the split
    assert features(made, "--data", data, "-o", tmp_path / "f")[0] == 1
    assert hidden(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("sent", "procs"), [(signal.SIGINT, 2), (signal.SIGKILL, 1)])
def test_a_process_that_is_ended_is_gone_on_with_by_another(
    tmp_path: Path, features: Any, sent: signal.Signals, procs: int
) -> None:
    data, made = write_folder(tmp_path / "data", train=8, val=4), bundle(tmp_path)
    args = [made, "--data", data, "--scales", "100,140", "--batch", "1"]
    assert features(*args, "-o", tmp_path / "whole")[0] == 0
    args += ["-o", tmp_path / "f"]
    given = [*args, "--device", "cpu", "--threads", "1", "--procs", procs]
    command = [sys.executable, "-m", "vggspec", "features", *map(str, given)]
    with subprocess.Popen(
        command, text=True, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        while not (found := hidden(tmp_path)) or not found[0].stat().st_size:
            assert child.poll() is None
            time.sleep(0.01)
        os.killpg(child.pid, sent)
        _, err = child.communicate(timeout=60)
    number = len(hidden(tmp_path)[0].read_bytes().splitlines())
    if sent is signal.SIGINT:
        assert child.returncode == 130
        last = err.splitlines()[-1]
        ending = r"interrupted after \d+ of 36 images(?:; --resume continues)?"
        assert re.fullmatch(ending, last), err
    assert not (tmp_path / "f").exists()
    code, _, err = features(*args, "--resume")
    assert code == 0, err
    match = re.search(r"(\d+|none) of 36 images were done before", err)
    assert match is not None
    assert int(match[1].replace("none", "0")) in (number - 1, number)
    assert (tmp_path / "f").read_bytes() == (tmp_path / "whole").read_bytes()
    assert hidden(tmp_path) == []
