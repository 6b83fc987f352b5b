"""The language reference: its examples compile, its list of codes is complete."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vggspec.base.catalogue import by_code
from vggspec.base.recipe import Experiment, LayersFrom
from vggspec.base.render import as_text
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source
from vggspec.compiler.lower import Lowered, load_network, lower
from vggspec.lang.loading import net_name
from vggspec.lang.parser import parse
from vggspec.lang.sections import SECTIONS

PAGE = ROOT / "docs" / "language.md"
TEXT = PAGE.read_text("utf-8")
EXAMPLES = re.findall(r"^```vgg\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def _compiled(text: str, specs: Path) -> dict[str, Lowered]:
    """The nets of an example that stands in the folder of the specs."""
    document = parse(Source(str(specs / "example.vgg"), text))
    return {net_name(spec): lower(spec) for spec in document.specs}


def _example(beginning: str) -> str:
    (found,) = [text for text in EXAMPLES if beginning in text]
    return found


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0][:30])
def test_example_compiles(text: str, specs: Path) -> None:
    reports = check_source(Source(str(specs / "example.vgg"), text)).reports
    assert not reports, as_text(reports)
    assert all(lowered.network.layers for lowered in _compiled(text, specs).values())


def _shape(lowered: Lowered) -> list[tuple[object, ...]]:
    return [(one.name, one.op, one.type, one.params) for one in lowered.network.layers]


def test_column_is_net_d(specs: Path) -> None:
    (lowered,) = _compiled(_example("# Configuration D"), specs).values()
    assert _shape(lowered) == _shape(load_network(str(specs / "D.vgg")))
    assert lowered.network.parameters == 138_357_544


@pytest.mark.parametrize("net", ["A", "A-LRN", "B", "C"])
def test_table_gives_the_nets_of_the_single_files(net: str, specs: Path) -> None:
    lowered = _compiled(_example("| A-LRN"), specs)[net]
    assert _shape(lowered) == _shape(load_network(str(specs / f"{net}.vgg")))


@pytest.mark.parametrize("net", ["A", "A-LRN", "B", "C", "D", "E"])
def test_table_1_is_the_single_files(net: str, specs: Path) -> None:
    column = load_network(f"{specs / 'table1.vgg'}:{net}")
    single = load_network(str(specs / f"{net}.vgg"))
    assert _shape(column) == _shape(single)
    assert column.network.input == single.network.input
    assert column.experiment == single.experiment


def test_localisation(specs: Path) -> None:
    network = _compiled(_example("D-loc"), specs)["D-loc"].network
    classifier = load_network(str(specs / "D.vgg")).network
    end = [layer.name for layer in classifier.layers].index("drop7") + 1
    assert [layer.name for layer in network.layers[:end]] == [
        layer.name for layer in classifier.layers[:end]
    ]
    assert [layer.name for layer in network.layers[end:]] == ["fc8", "boxes"]
    assert network.layers[end - 2].name == "relu7"
    assert network["fc8"].type.shape == (4000,)
    assert [output.name for output in network.outputs] == ["boxes"]


def test_defaults_written_out(specs: Path) -> None:
    (lowered,) = _compiled(_example("plateau of 5 epochs"), specs).values()
    assert lowered.experiment == Experiment()


def test_settings_written_out(specs: Path) -> None:
    (lowered,) = _compiled(_example("256..512"), specs).values()
    train, test = lowered.experiment.train, lowered.experiment.test
    assert train.scale == (256, 512)
    assert train.start_from == (LayersFrom(path="A.vgg", first_conv=4, last_fc=3),)
    assert test.scales == (256, 384, 512)
    assert (test.dense, test.crops, test.average) == (True, None, "scores")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_documented(section: str) -> None:
    for key in SECTIONS[section]:
        assert re.search(rf"^\| `{key}\b", TEXT, re.MULTILINE), key


_CODES = re.compile(r"(<!-- codes:[^\n]*-->\n)(.*?)(<!-- end of codes -->)", re.DOTALL)


def test_list_of_codes(request: pytest.FixtureRequest) -> None:
    rows = [f"| `{code}` | {kind.summary()} |" for code, kind in by_code().items()]
    table = "\n".join(["", "| code | means |", "|---|---|", *rows, "", ""])
    if request.config.getoption("--update-golden"):
        PAGE.write_text(_CODES.sub(lambda match: match[1] + table + match[3], TEXT), "utf-8")
        return
    match = _CODES.search(TEXT)
    assert match is not None
    assert match[2] == table, "docs/language.md lists other codes: run pytest --update-golden"


def test_every_code_belongs_to_a_group() -> None:
    table = TEXT.partition("| codes | subject |\n|---|---|\n")[2].partition("\n\n")[0]
    groups = []
    for row in table.splitlines():
        for part in row.split("|")[1].split(","):
            first, _, last = part.strip().removeprefix("VGG").partition(" to VGG")
            groups.append((first.replace("x", "0"), (last or first).replace("x", "9")))
    for code in by_code():
        assert sum(low <= code[3:] <= high for low, high in groups) == 1, code


def test_error_example_is_what_is_printed() -> None:
    net = "input 24x24 RGB\n" + "\n".join(["", "", "conv3-8", "maxpool"] * 2)
    text = f"# Small\nnet small\n{net}\nconv3-8\nmaxpool\nconv3-512\nmaxpool\nmaxpool\nFC-10\n"
    (report,) = check_source(Source("specs/small.vgg", text)).reports
    shown = as_text([report])
    (example,) = re.findall(r"^```text\n(.*?)\n```", TEXT, re.MULTILINE | re.DOTALL)
    without_places = [re.sub(r"^ *\d+ |:\d+:", "", line) for line in example.splitlines()]
    assert [re.sub(r"^ *\d+ |:\d+:", "", line) for line in shown.splitlines()] == without_places


def test_links_within_the_page() -> None:
    titles = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
