"""Columns of a table by its first row: nets, or a layer and its arguments; names and sizes."""

from typing import Literal

from vggspec.lang.ast import Cell, LayerItem, TableRow, Word

#: What a column holds. A table of nets has the roles ``net``, a table of rows ``layer`` first and
#: ``argument``; both may have the other two.
Role = Literal["net", "layer", "argument", "name", "output"]


def roles(head: TableRow) -> tuple[Role, ...]:
    """What each column below a first row holds."""
    words = [word_in(cell) for cell in head.cells]
    texts = ["" if word is None else word.text.casefold() for word in words]
    found: list[Role] = []
    for i, text in enumerate(texts):
        if text == "layer" and i == 0:
            found.append("layer")
        elif text == "name":
            found.append("name")
        elif text == "output":
            found.append("output")
        else:
            found.append("argument" if texts[0] == "layer" else "net")
    return tuple(found)


def word_in(cell: Cell) -> Word | None:
    """The word that is all of a cell."""
    match cell.items:
        case (LayerItem(word=word, options=(), repeat=None, alias=None),):
            return word
        case _:
            return None


def spread(columns: tuple[Role, ...], row: TableRow) -> tuple[Cell, ...] | None:
    """A cell for each column, one that spans all nets for each of them; None if they do not fit."""
    cells = row.cells
    if len(cells) == len(columns):
        return cells
    if len(cells) != spanning(columns):
        return None
    first, nets = columns.index("net"), columns.count("net")
    return cells[:first] + cells[first : first + 1] * nets + cells[first + 1 :]


def spanning(columns: tuple[Role, ...]) -> int | None:
    """How many cells a row has where one spans all nets; None where none can, because another
    column stands between them.
    """
    nets = columns.count("net")
    if nets < 2 or columns[columns.index("net") :][:nets].count("net") != nets:
        return None
    return len(columns) - nets + 1
