"""``vggspec reproduce``: tables of the paper, measured with nets small enough for a test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_eval import SPEC, Done
from tests.nets import net, random_weights
from tests.studies.evaluation.pictures import FOLDERS, write_pictures
from vggspec.base.catalogue.evaluating import NoTableWeights
from vggspec.base.diagnostic import VggspecError
from vggspec.cli import run
from vggspec.compiler.weights import open_weights
from vggspec.studies import reproduce
from vggspec.studies.paper import TABLES, TableRow, Trained

NETS = ("A", "D", "E")


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """The command, with small nets in place of the paper's and small scales in its tables."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    specs = tmp_path / "specs"
    specs.mkdir()
    for name in NETS:
        (specs / f"{name}.vgg").write_text(spec(name))
    monkeypatch.setattr(reproduce, "specs", lambda: specs)
    small = {
        name: tuple(
            TableRow(row.nets, tuple(scale // 16 + 4 for scale in row.scales), row.top1, row.top5)
            if row.evaluation == "dense"
            else TableRow(
                row.nets,
                tuple(scale // 16 + 4 for scale in row.scales),
                row.top1,
                row.top5,
                row.evaluation,
            )
            for row in rows
        )
        for name, rows in TABLES.items()
    }
    monkeypatch.setattr(reproduce, "TABLES", small)
    write_pictures(tmp_path / "data", 3, (*FOLDERS, "z"))
    (tmp_path / "weights").mkdir()

    def run_it(table: str, *args: object) -> Done:
        words = [table, "--data", tmp_path / "data", "--weights", tmp_path / "weights", *args]
        code = run(["reproduce", *map(str, words)])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run_it


def spec(name: str) -> str:
    return SPEC.replace("net tiny", f"net {name}")


def give(tmp_path: Path, name: str, seed: int = 0) -> Path:
    path = tmp_path / "weights" / f"{name}.safetensors"
    random_weights(net(spec(name[0])), path, seed)
    open_weights(path)
    return path


def bundle(tmp_path: Path, name: str) -> Path:
    weights = tmp_path / "weights" / f"{name}.safetensors"
    out = tmp_path / f"bundle-{name}"
    code = run(["compile", str(tmp_path / "specs" / f"{name[0]}.vgg"), "--weights", str(weights),
                "-o", str(out)])  # fmt: skip
    assert code == 0
    return out


def test_rows_with_weights_are_what_eval_says(
    tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, "A-256")
    give(tmp_path, "D-256..512", 1)
    rows = call("table3", "--json").data
    measured = {row["nets"][0]: row["measured"] for row in rows if row["measured"]}
    assert list(measured) == ["A-256", "D-256..512"]
    assert len(rows) == len(TABLES["table3"])
    for name, scale in (("A-256", 20), ("D-256..512", 28)):
        path = bundle(tmp_path, name)
        capsys.readouterr()
        args = ["eval", path, "--data", tmp_path / "data", "--scales", scale, "--json"]
        assert run([str(each) for each in args]) == 0
        (setting,) = json.loads(capsys.readouterr().out)["settings"]
        assert measured[name]["top1_error"] == setting["top1_error"]
        assert measured[name]["top5_error"] == setting["top5_error"]
        assert measured[name]["images"] == 15


def test_crops_and_fusion_are_told_from_one_pass(
    tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, "D")  # as the released nets are called
    give(tmp_path, "E", 1)
    done = call("table6", "--json")
    assert [row["evaluation"] for row in done.data] == ["dense", "multi-crop", "multi-crop & dense"]
    paths = [bundle(tmp_path, "D"), bundle(tmp_path, "E")]
    capsys.readouterr()
    scales = ["--scales", "20,28,36"]
    for row, options in zip(
        done.data, (["--dense"], ["--crops", "5x5"], ["--dense", "--crops", "5x5"]), strict=True
    ):
        args = ["eval", *paths, "--data", tmp_path / "data", *scales, *options, "--json"]
        assert run([str(each) for each in args]) == 0
        (setting,) = json.loads(capsys.readouterr().out)["settings"]
        assert row["measured"]["top1_error"] == setting["top1_error"]
    table5 = call("table5").out.splitlines()
    assert len(table5) == 3 + len(TABLES["table5"])
    assert max(map(len, table5)) <= 80


def test_the_table_has_the_papers_numbers_beside(tmp_path: Path, call: Any) -> None:
    give(tmp_path, "D-384")
    done = call("table4")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "Table 4 of the paper, on 15 images"
    rows = lines[3:]
    assert len(rows) == len(TABLES["table4"])
    assert max(map(len, lines)) <= 80
    assert "without their standard errors; see --wide" in done.err
    wide = call("table4", "--wide").out.splitlines()
    assert len(wide) == len(lines)
    (with_errors,) = [line for line in wide if "%" in line]
    assert " ± " in with_errors
    (measured,) = [line for line in rows if " -  " not in line]
    assert measured.split()[:2] == ["D", "384"]
    assert measured.split()[-1] == "8.6"
    assert "26.5" in measured.split()
    notes = " ".join(done.err.split())
    assert "no weights for B-256, C-256, D-256, E-256, C-384, E-384" in notes
    assert "looked for B-256.safetensors" in notes
    assert "classes 0 to 4 are taken to be ant to z" in notes
    assert "D-256..512.safetensors, D.safetensors" in notes
    assert list((tmp_path / "weights").iterdir()) == [tmp_path / "weights" / "D-384.safetensors"]


def test_without_any_weights_it_says_what_it_looked_for(tmp_path: Path, call: Any) -> None:
    done = call("table6")
    assert (done.code, done.out) == (1, "")
    assert "VGG695" in done.err
    assert "E-256..512.safetensors and E.safetensors" in done.err
    give(tmp_path, "D")
    assert call("table6").code == 1  # one net of two is no row


def test_weights_of_another_net_are_refused(tmp_path: Path, call: Any) -> None:
    path = give(tmp_path, "A-256")
    other = net(SPEC.replace("conv3-8", "conv3-6"))
    random_weights(other, path)
    done = call("table3")
    assert (done.code, done.out) == (1, "")
    assert "VGG503" in done.err


def test_interrupted_it_goes_on(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vggspec.studies.evaluation.answers import Result, Tally

    give(tmp_path, "A-256")
    give(tmp_path, "D-256", 1)
    expected = call("table3").out
    add = Tally.add
    count = 0

    def adding(self: Tally, result: Result) -> None:
        nonlocal count
        add(self, result)
        count += 1
        if count == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", adding)
    done = call("table3")
    assert (done.code, done.out) == (130, "")
    assert "interrupted after 5 of 15 images; --resume continues" in done.err
    monkeypatch.setattr(Tally, "add", add)
    done = call("table3", "--resume")
    assert done.out == expected
    assert "15 of 15 images were done before" in done.err
    assert "5 of 15 images were done before" in done.err
    assert not list((tmp_path / "cache").glob("vggspec/evals/*"))


def test_the_papers_numbers_hang_together() -> None:
    """What several tables say of one setting is the same, and more evaluation errs no more."""
    rows = {
        name: {(row.nets, row.scales, row.evaluation): (row.top1, row.top5) for row in rows}
        for name, rows in TABLES.items()
    }
    assert [len(found) for found in rows.values()] == [12, 10, 6, 3]
    shared = rows["table4"].keys() & rows["table5"].keys()
    assert len(shared) == 2
    for key in shared:
        assert rows["table4"][key] == rows["table5"][key]
    for nets, scales, _ in rows["table3"]:
        assert len(scales) == 1
        several = [top1 for (n, *_), (top1, _) in rows["table4"].items() if n == nets]
        one = rows["table3"][nets, scales, "dense"][0]
        assert all(top1 <= one for top1 in several)


def test_the_specs_of_the_tables_come_with_vggspec(specs: Path) -> None:
    nets = {net.net for rows in TABLES.values() for row in rows for net in row.nets}
    assert nets == {"A", "A-LRN", "B", "C", "D", "E"}
    for name in nets:
        assert (specs / f"{name}.vgg").is_file()
        assert (reproduce.specs() / f"{name}.vgg").is_file()


def test_a_table_without_its_nets_is_an_error_of_its_own(tmp_path: Path) -> None:
    import contextlib

    from vggspec.data.labelled import open_labelled
    from vggspec.studies.tasks.work import Effort

    images = open_labelled(write_pictures(tmp_path / "data"))
    effort = Effort(device="cpu")
    row = TableRow((Trained("X", "1"),), (20,), 1.0, 1.0)
    with contextlib.ExitStack() as stack, pytest.raises(VggspecError) as caught:
        reproduce.measure("table3", [row], tmp_path, tmp_path, images, None, effort, stack)
    what = caught.value.reports[0].what
    assert isinstance(what, NoTableWeights)
    assert what.looked == ("X-1.safetensors",)
