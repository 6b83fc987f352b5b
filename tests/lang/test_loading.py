"""Specs by name: files of the working folder, and those that come with vggspec."""

from pathlib import Path

import pytest

from tests.refusals import refused
from vggspec.compiler.checking import check
from vggspec.compiler.lower import base_folder, load_network
from vggspec.lang.loading import as_named, find_spec, load, split_target
from vggspec.lang.packaged import packaged, title

SMALL = "net small\ninput 8x8 RGB\nFC-2\nsoft-max\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "net"), [("D", "D"), ("d", "D"), ("table1:C", "C")])
def test_a_packaged_spec_is_named_from_anywhere(here: Path, name: str, net: str) -> None:
    assert load_network(name).network.name == net


@pytest.mark.parametrize("file", ["D", "D.vgg"])
def test_a_file_of_the_working_folder_wins(here: Path, file: str) -> None:
    Path(file).write_text(SMALL)
    assert load_network("D").network.name == "small"
    assert load_network("D:small").network.name == "small"


def test_a_folder_does_not_count(here: Path) -> None:
    """Bundles are called so."""
    Path("D").mkdir()
    assert load_network("D").network.name == "D"


def test_two_files_of_one_name_are_refused(here: Path) -> None:
    Path("D").write_text(SMALL)
    Path("D.vgg").write_text(SMALL)
    with refused(r"VGG132(.|\n)*write `D.vgg` or `./D`"):
        load_network("D")
    assert find_spec("D.vgg") == "D.vgg"
    assert find_spec("./D") == "./D"


def test_a_file_whose_name_has_a_colon(here: Path) -> None:
    Path("table1:D").write_text(SMALL)
    assert split_target("table1:D") == ("table1:D", None)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("tabel1", "did you mean `table1`, which comes with vggspec"),
        ("D.vgg", "did you mean `D`, which comes with vggspec"),
        ("nothing-like-it", "a spec that `vggspec specs` lists"),
    ],
)
def test_an_unknown_name_suggests_another(here: Path, name: str, suggestion: str) -> None:
    with refused(f"VGG010(.|\n)*{suggestion}"):
        load_network(name)


def test_a_net_is_like_a_packaged_one(here: Path) -> None:
    text = 'like "D" up to fc7\nFC-10\nsoft-max\n'
    assert check("mine.vgg", text=text) == ()
    Path("mine.vgg").write_text(text)
    assert load_network("mine.vgg").network.num_classes == 10
    assert check("mine.vgg", text='like "table1:B" up to pool5\nFC-10\n') == ()


def test_a_net_is_rather_like_the_file_beside_it(here: Path) -> None:
    Path("sub").mkdir()
    Path("sub/D.vgg").write_text(SMALL)
    Path("sub/mine.vgg").write_text('like "D"\n')
    assert len(load_network("sub/mine.vgg").network.weight_layers) == 1


def test_what_comes_with_vggspec(specs: Path) -> None:
    assert set(packaged()) == {path.stem for path in specs.glob("*.vgg")}
    assert list(packaged())[:6] == ["A", "A-LRN", "B", "C", "D", "E"]
    assert all(title(Path(path).read_text()) for path in packaged().values())


def test_paths_in_a_packaged_spec_are_from_the_working_folder(here: Path) -> None:
    """Its own folder is the package's."""
    assert base_folder(load("D")) == Path(".")
    Path("sub").mkdir()
    Path("sub/x.vgg").write_text(SMALL)
    assert base_folder(load("sub/x.vgg")) == Path("sub")


def test_what_to_type_for_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits, resnet = find_spec("digits"), find_spec("resnet")
    assert as_named(digits, "digits") == "digits"
    assert as_named(f"{digits}:digits") == "digits:digits"
    assert as_named(resnet, "ResNet-18") == "resnet:ResNet-18"
    assert as_named(f"{resnet}:ResNet-34") == "resnet:ResNet-34"
    Path("resnet.vgg").write_bytes(Path(resnet).read_bytes())
    assert as_named("resnet.vgg", "ResNet-18") == "resnet.vgg:ResNet-18"
    assert as_named(resnet, "ResNet-18") == f"{resnet}:ResNet-18"  # `resnet` is now that file
    assert as_named("<stdin>", "net") == "<stdin>"
