"""Tables as they are copied from papers give the nets of the papers, or errors at their places."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lang.pasting import FORMS, nets, pasted
from vggspec.base.diagnostic import VggspecError
from vggspec.base.render import as_text
from vggspec.base.source import Source
from vggspec.compiler.pasting import from_table
from vggspec.lang.pasted import draft


def refused(text: str) -> VggspecError:
    """The error that a pasted text gives."""
    with pytest.raises(VggspecError) as found:
        from_table(text)
    return found.value


def places(error: VggspecError) -> list[tuple[str, int, str]]:
    """Code, line and marked text of each report."""
    found = []
    for report in error.reports:
        assert report.source is not None
        assert report.span is not None
        line = report.source.locate(report.span.start).line
        found.append((report.what.code, line, report.source.slice(report.span)))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_the_papers_table_gives_its_nets(form: str, specs: Path) -> None:
    found = from_table(pasted(form))
    expected = nets((specs / "table1.vgg").read_text("utf-8"))
    assert list(expected) == ["A", "A-LRN", "B", "C", "D", "E"]
    assert nets(found.spec) == expected


@pytest.mark.parametrize("form", FORMS)
def test_claims_of_the_head_are_kept(form: str) -> None:
    spec = from_table(pasted(form)).spec
    assert spec.count("11 weight layers") == 2
    assert spec.count("19 weight layers") == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_less_is_a_false_claim_at_its_place(form: str) -> None:
    text = pasted(form)
    cut = text.replace("FC-4096", "gap", 1)
    found = places(refused(cut))
    assert {code for code, _, _ in found} == {"VGG117"}
    assert {" ".join(where.replace("<br>", " ").split()) for _, _, where in found} == {
        f"{n} weight layers" for n in (11, 13, 16, 19)
    }


@pytest.mark.parametrize("name", [*FORMS, "resnet-source.tex", "resnet-spaces.txt"])
def test_what_is_dropped_or_guessed_is_said(name: str, golden: Callable[[str, str], None]) -> None:
    notes = draft(Source(name, pasted(name))).notes
    golden(f"pasted/{name.partition('.')[0]}.notes.txt", "".join(f"{note}\n" for note in notes))


def test_a_damaged_table_gives_errors_at_their_places(golden: Callable[[str, str], None]) -> None:
    error = refused(pasted("vgg-damaged.txt"))
    found = {(code, where) for code, _, where in places(error)}
    assert ("VGG054", "В") in found
    assert ("VGG053", "FC-\t1000") in found
    assert ("VGG052", "4096") in found
    golden("pasted/vgg-damaged.txt", f"{as_text(error.reports)}\n")


RESNET = """\
| conv1 | 112x112 | conv7-64/2 |
|  |  | maxpool3/2(pad 1) |
| conv2 | 56x56 | [conv3-64 conv3-64] x2 | [conv1-64 conv3-64 conv1-256] x3 |
| conv3 | 28x28 | [conv3-128/2(once) conv3-128] x2 | [conv1-128 conv3-128/2(once) conv1-512] x4 |
| conv4 | 14x14 | [conv3-256/2(once) conv3-256] x2 | [conv1-256 conv3-256/2(once) conv1-1024] x6 |
| conv5 | 7x7 | [conv3-512/2(once) conv3-512] x2 | [conv1-512 conv3-512/2(once) conv1-2048] x3 |
|  | 1x1 | gap |
|  |  | FC-1000 soft-max |
"""


@pytest.mark.parametrize("name", ["resnet-source.tex", "resnet-tabs.txt", "resnet-spaces.txt"])
def test_the_table_of_resnet_becomes_brackets(name: str) -> None:
    """Table 1 of He et al. 2016; the form of the spec is that of docs/language.md."""
    text = draft(Source(name, pasted(name))).written.text
    rows = [row.split("|") for row in text.splitlines() if "layers" not in row][2:]
    some = ["|".join(row[:4] + row[5:6] if len(row) > 5 else row) for row in rows]
    assert "".join(f"{row.rstrip('| ')} |\n" for row in some) == RESNET
    assert "18 weight layers" in text
    assert "50 weight layers" in text


@pytest.mark.parametrize("name", ["resnet-source.tex", "resnet-tabs.txt", "resnet-spaces.txt"])
def test_with_what_the_paper_says_beside_it_the_table_is_resnet(name: str, specs: Path) -> None:
    """Shortcuts and batch normalisation are in the text of the paper, not in its table."""
    spec = from_table(pasted(name)).spec.replace("] x", " + shortcut] x")
    found = nets(f"{spec}\nconv is conv(no-bias) BN ReLU\n")
    expected = nets((specs / "resnet.vgg").read_text("utf-8"))
    assert len(found) == (3 if name == "resnet-spaces.txt" else 5)
    for net, layers in found.items():
        depth = net.split("-")[1]
        assert layers[1:] == expected[f"ResNet-{depth}"][1:]  # the means of the colours apart


def test_a_list_is_a_column() -> None:
    found = from_table(
        "AlexNet\n"
        "input 227×227×3\n"
        "conv 11×11, 96, stride 4 (pad 0), ReLU\n"
        "LRN\n"
        "max pool 3×3, stride 2\n"
        "conv 5×5 (256), pad 2, groups 2, ReLU\n"
        "3×3 max pool, /2\n"
        "fc 4096, relu, dropout 0.5\n"
        "1000-d fc\n"
        "softmax\n"
    )
    assert found.spec == (
        "net AlexNet\n"
        "input 227x227 RGB\n"
        "\n"
        "conv11-96/4(pad 0)\n"
        "LRN\n"
        "maxpool3/2\n"
        "conv5-256(pad 2, groups 2)\n"
        "maxpool3/2\n"
        "FC-4096 dropout(0.5)\n"
        "FC-1000\n"
        "soft-max\n"
    )
    assert found.notes == (
        "lines 3, 6, 8: a ReLU after a conv or FC layer is implied: not written",
    )


@pytest.mark.parametrize("bullet", ["- ", "* ", "3. ", "1) ", "• "])
def test_bullets_of_a_list_are_dropped(bullet: str) -> None:
    text = "".join(f"{bullet}{layer}\n" for layer in ("3×3, 8", "max pool, 2×2", "FC-10"))
    found = from_table(text)
    assert found.spec == "conv3-8\nmaxpool\nFC-10\n"
    assert found.notes == ("lines 1-3: the mark of the list is dropped",)


def test_numbers_of_parameters_are_claims() -> None:
    table = "A\tB\n3×3, 8\t3×3, 16\nFC-10\nNumber of parameters\t4014314\t8028618\n"
    spec = from_table(table).spec
    assert "| 4014314 parameters | 8028618 parameters |" in spec
    wrong = refused(table.replace("4014314", "4014315"))
    assert [code for code, _, _ in places(wrong)] == ["VGG118"]


def test_numbers_of_parameters_may_be_millions(specs: Path) -> None:
    text = pasted("vgg-tabs.txt").replace(
        "soft-max\t\t\t\t\t",
        "soft-max\t\t\t\t\t\nNumber of parameters\t133\t133\t133\t134\t138\t144",
    )
    found = from_table(text)
    assert "| 133M parameters  " in found.spec
    assert "| 144M parameters  " in found.spec
    assert any("millions" in note for note in found.notes)
    assert nets(found.spec) == nets((specs / "table1.vgg").read_text("utf-8"))


def test_half_a_claim_in_two_rows_is_one() -> None:
    found = from_table("A\tB\n2 weight\t3 weight\nlayers\tlayers\n3×3, 8\t3×3, 8; 3×3, 8\nFC-10\n")
    assert "| 2 weight layers | 3 weight layers " in found.spec


PARTIAL = "A\tB\tC\nconv3-8\tconv3-8\tconv3-8\n\tconv3-8\tconv3-8\n"


def test_a_conv_alone_in_a_row_is_an_error_where_empty_cells_mean_nothing() -> None:
    found = refused(f"{PARTIAL}conv3-16\t\t\nFC-10\n")
    assert places(found) == [("VGG055", 4, "conv3-16")]


def test_a_conv_alone_in_the_last_column_is_that_nets() -> None:
    found = from_table(f"{PARTIAL}\t\tconv3-16\nFC-10\n")
    assert [len(layers) for layers in nets(found.spec).values()] == [5, 7, 9]
    assert any("read as a cell of C" in note for note in found.notes)


def test_a_pooling_alone_in_a_row_is_of_all_nets() -> None:
    found = from_table(f"{PARTIAL}\tmaxpool\t\nFC-10\n")
    assert all(any(layer[0] == "pool1" for layer in net) for net in nets(found.spec).values())
    assert "line 4: `maxpool` is alone in its row: read as a cell of all nets" in found.notes


def test_spans_of_a_page_are_exact() -> None:
    page = (
        "<table><tr><td>A<td>B<td>C<tr><td colspan=2>conv3-8<td>conv3-16"
        "<tr><td><td>conv3-8<td><tr><td colspan=3>FC-10</table>"
    )
    found = from_table(page)
    assert [len(layers) for layers in nets(found.spec).values()] == [5, 7, 5]
    assert found.notes == ()


def test_rows_that_a_cell_spans_are_left_out() -> None:
    page = (
        "<table><tr><th>name<th>A<th>B<tr><td rowspan=2>conv1<td rowspan=2>conv3-8<td>conv3-8"
        "<tr><td>conv3-16<tr><td>fc<td colspan=2>FC-10</table>"
    )
    text = draft(Source("page", page)).written.text
    assert "| conv3-8 | conv3-8 |" in text
    assert "|  | conv3-16 |" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("VGG050", 1, "")]),
        ("no table here\n", [("VGG050", 1, "")]),
        ("A\tB\nconv3-8\tconv3-5l2\nFC-10\n", [("VGG052", 2, "conv3-5l2")]),
        ("A\tB\nconv3-8\tconv3-8\nmax\tpool\nFC-10\n", [("VGG053", 3, "max\tpool")]),
        ("A\tA\nconv3-8\tconv3-8\n", [("VGG054", 1, "A")]),
        ("conv3-8\tconv3-8\nFC-10\n", [("VGG054", 1, "conv3-8\tconv3-8")]),
        ("A\tB\nconv3-8\tconv3-8\tconv3-8\n", [("VGG056", 2, "conv3-8\tconv3-8\tconv3-8")]),
        ("A\tB\nconv3-8\tpool\nFC-10\n", [("VGG058", 2, "pool")]),
        ("A\tB\n3×3 conv\tconv3-8\nFC-10\n", [("VGG058", 2, "3×3 conv")]),
        (
            "layer\tfilters\tstride\n3×3, 8\t64\t2\n",
            [("VGG059", 1, "filters"), ("VGG059", 1, "stride")],
        ),
        ("A\tB\n[3×3, 8 ×2\t3×3, 8\nFC-10\n", [("VGG057", 2, "[")]),
        ("<table><tr><td>A<tr><td>conv3-8<table></table></table>", [("VGG057", 1, "<table")]),
        (r"\begin{tabular}{c} A \\ conv3-8 \\ \foo \\", [("VGG057", 1, "}")]),
        (r"\begin{tabular}{c} A \\ conv3-8 \foo \end{tabular}", [("VGG057", 1, r"\foo")]),
        (r"\begin{tabular}{c} A \\ {conv3-8 \\ \end{tabular}", [("VGG057", 1, "{")]),
    ],
)
def test_mistakes_at_their_places(text: str, expected: list[tuple[str, int, str]]) -> None:
    assert places(refused(text)) == expected


def test_mistakes_of_the_net_are_at_the_places_of_the_paste() -> None:
    text = "A\tB\nmax pool, 2×2\tconv3-8\n" + "max pool, 2×2\n" * 7 + "conv 4×4, 8\t3×3, 8\nFC-10\n"
    assert ("VGG202", 10, "conv 4×4, 8") in places(refused(text))


def test_several_tables_are_an_error() -> None:
    one = "A\tB\nconv3-8\tconv3-8\nFC-10\n"
    error = refused(f"{one}\nSome words of the paper.\n\n{one}")
    assert [code for code, _, _ in places(error)] == ["VGG051"]
    page = "<table><tr><td>A<tr><td>conv3-8</table>"
    assert [code for code, _, _ in places(refused(page + page))] == ["VGG051"]


def test_definitions_of_latex_are_followed() -> None:
    text = (
        "\\newcommand{\\conv}[2]{$#1\\times#1$, #2}\n\\def\\ten{FC-10}\n"
        "\\begin{tabular}{cc} A & B \\\\ \\conv{3}{8} & \\conv35 \\\\ "
        "\\multicolumn{2}{c}{\\ten} \\end{tabular}"
    )
    spec = from_table(text).spec
    assert "| conv3-8 | conv3-5 |" in spec
    with pytest.raises(VggspecError, match="defined by itself"):
        from_table("\\def\\a{\\a}\\begin{tabular}{c} A \\\\ \\a \\end{tabular}")


def test_look_alikes_of_the_hyphen_and_of_times_are_read() -> None:
    found = from_table("3✕3, 8\nconv3–8\nFC—10\n")
    assert found.spec == "conv3-8\nconv3-8\nFC-10\n"


@pytest.mark.parametrize("layer", ["2 × conv3-8", "3*3 conv, 8", "conv3-8, stride -2", "a pool"])
def test_a_damaged_first_layer_is_no_name(layer: str) -> None:
    """What stands above the layers names the net or is a title, unless it could be a layer."""
    assert {code for code, _, _ in places(refused(f"A\n{layer}\nFC-10\n"))} <= {"VGG052", "VGG058"}
    two = f"A\tB\n{layer}\tconv3-8\nFC-10\n"
    assert {code for code, _, _ in places(refused(two))} <= {"VGG052", "VGG058"}


def test_columns_of_numbers_are_no_list() -> None:
    assert places(refused("Layer\tKernel\tOut\nconv\t3×3\t64\n")) == [("VGG050", 1, "")]


def test_the_name_of_a_net_may_have_a_width() -> None:
    found = from_table("ResNeXt-50 (32×4d)\tB\nconv3-8\tconv3-8\nTop-5 error\t10\t9\n")
    assert "| ResNeXt-50-32-4d | B " in found.spec
    assert "line 3: the row `Top-5 error` is not read" in found.notes


@pytest.mark.parametrize(
    ("table", "spec"),
    [
        ("conv3-64\nmax pool\nBN\nReLU\nFC-10", "conv3-64\nmaxpool\nBN\nReLU\nFC-10\n"),
        ("conv3-64\nBN\nReLU\nFC-10", "conv3-64\nBN\nFC-10\n"),
        ("conv3-64\nReLU\nBN\nFC-10", "conv3-64\nReLU\nBN\nFC-10\n"),
        ("conv3-64\nReLU\nBN\nReLU\nFC-10", "conv3-64\nReLU\nBN\nReLU\nFC-10\n"),
        ("conv3-64(linear)\nReLU\nFC-10", "conv3-64(linear)\nReLU\nFC-10\n"),
        ("conv3-64\nReLU\ndropout\nReLU\nFC-10", "conv3-64\ndropout\nReLU\nFC-10\n"),
        (
            "3×3, 64\n[BN, ReLU, 3×3, 64; BN, ReLU, 3×3, 64] ×2\nBN, ReLU\nFC-10",
            "conv3-64\n[BN ReLU conv3-64 BN conv3-64] x2\nBN ReLU\nFC-10\n",
        ),
    ],
)
def test_a_relu_is_left_out_only_where_it_is_implied(table: str, spec: str) -> None:
    assert from_table(table).spec == spec


def test_an_implied_relu_that_the_table_lacks_is_said() -> None:
    table = "3×3, 64\n[BN, ReLU, 3×3, 64; BN, ReLU, 3×3, 64] ×2\nBN, ReLU\nFC-10"
    (note,) = (each for each in from_table(table).notes if "no ReLU is written" in each)
    assert note.startswith("lines 1-2: ")
    plain = from_table("conv3-64\nconv3-64\nReLU\nFC-10").notes
    assert any(each.startswith("line 1: no ReLU is written here") for each in plain)
    assert not any("no ReLU" in each for each in from_table("conv3-64\nconv3-64\nFC-10").notes)
