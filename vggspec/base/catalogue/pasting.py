"""Mistakes in a table that was copied from a paper (VGG05x)."""

from vggspec.base.diagnostic import Diagnostic


class NoTable(Diagnostic):
    """The text contains no table of layers.

    ``vggspec fmt --from-table`` reads columns separated by tabs or by two or more spaces, a table
    of Markdown, ``<table>`` of a web page, ``tabular`` of LaTeX, and a list with a layer a line:

        A           B
        conv3-64    conv3-64
        maxpool
        FC-10
    """

    code = "VGG050"
    TITLE = "there is no table of layers in this text"
    HELP = "copy the table with the names of its nets and its layers, such as `3×3, 64`"


class SeveralTables(Diagnostic):
    """The text contains several tables of layers.

    A spec file comes from one of them. Copy that table alone:

        vggspec fmt --from-table table1.txt > table1.vgg
    """

    code = "VGG051"
    TITLE = "there are {found} tables of layers in this text"
    LABEL = "the second one"
    HELP = "keep one; they begin in lines {lines:join}"
    found: int
    lines: tuple[int, ...]


class NotALayer(Diagnostic):
    """A part of a cell is not understood.

    Copied text is often damaged: letters that only look like others, words cut in two, noise of a
    scan. Nothing is guessed: correct the cell, or write the layer as in a spec.

        conv3-5l2     wrong: a letter in place of a digit
        conv3-512     right
    """

    code = "VGG052"
    TITLE = "`{found}` is not understood"
    LABEL = "of the column {column}"
    HELP = (
        "write `{suggestion}`, if that is meant",
        "write a layer, such as `3×3, 64`, `max pool, 2×2` or `FC-1000`, or delete it",
    )
    found: str
    column: str | None = None
    suggestion: str | None = None


class CutCell(Diagnostic):
    """A text that spans several columns was cut into cells when it was copied.

    Write it as one cell, in the first column or alone on its line:

        A           B
        max         pool        wrong
        max pool                right
    """

    code = "VGG053"
    TITLE = "one text is cut into {cells} cells"
    LABEL = "together they read `{together}`"
    HELP = "write the whole text as the only cell of the row"
    cells: int
    together: str


class NoHead(Diagnostic):
    """The name of a net was expected above a column.

    The row above the layers has a name for each column. A name is made of letters, digits, ``.``,
    ``_`` and ``-``; others are replaced. Letters of other scripts are not, since they come from a
    damaged copy.

        A           B
        conv3-64    conv3-64
    """

    code = "VGG054"
    TITLE = (
        "`{name}` contains the {letter}",
        "`{name}` is the name of two nets",
        "this column has no name of a net",
    )
    HELP = (
        "type `{name}` again, in Latin letters: {letter} only looks like one",
        "give the second net another name than `{name}`",
        "write a row with a name for each net above the layers",
    )
    name: str | None = None
    letter: str | None = None


class UnclearColumns(Diagnostic):
    """A cell stands alone in its row, and it is not clear whether it is for one net or for all.

    Copied text does not say how many columns a cell spans, and other rows of this table have empty
    cells. Write it in each column that it belongs to:

        A           B           C
                    conv3-64                wrong: B, or all three?
        conv3-64    conv3-64    conv3-64    right
    """

    code = "VGG055"
    TITLE = "`{found}` is alone in its row: it may belong to {net} or to all nets"
    HELP = "write it in each column that it belongs to"
    found: str
    net: str


class TooMuch(Diagnostic):
    """A row has more cells than its table has columns, or the text has too many lines.

    The row with the names of the nets says how many columns there are.

        A           B
        conv3-64    conv3-64    conv3-64    wrong
    """

    code = "VGG056"
    TITLE = (
        "this row has {found} cells, and its table {columns} columns",
        "a table has at most {most_columns} columns",
        "the text has more than {most_lines} lines",
    )
    HELP = ("write one cell for each of the {columns} columns", "copy the table alone")
    found: int | None = None
    columns: int | None = None
    most_columns: int | None = None
    most_lines: int | None = None


class Markup(Diagnostic):
    r"""Something in the markup of a table is not closed, not known, or nested too deeply.

    Of LaTeX the usual commands in tables are known, and those that ``\newcommand`` in the same
    text defines.

        \multicolumn{6}{c}{maxpool      wrong
        \multicolumn{6}{c}{maxpool}     right
    """

    code = "VGG057"
    TITLE = "{what}"
    HELP = "write the cell without it"
    what: str


class MissingNumber(Diagnostic):
    """A layer lacks a number or a word without which it is not known.

    A convolution has a receptive field and a number of channels, an FC layer a number of outputs,
    and a pooling says whether it takes the maximum or the average:

        3×3 conv          wrong
        3×3 conv, 64      right
    """

    code = "VGG058"
    TITLE = "`{found}` does not say {missing}"
    HELP = "write `{suggestion}`, if that is what the paper says"
    found: str
    missing: str
    suggestion: str


class ColumnOfNumbers(Diagnostic):
    """A column holds numbers of the layers, such as strides, where a net was expected.

    Each column of a table is a net, except those with the names of rows and with output sizes. A
    table with a layer a row and a column for each number is not read:

        type    filters    stride    wrong
        conv    64         2

        D                            right
        3×3, 64, stride 2
    """

    code = "VGG059"
    TITLE = "`{head}` is a property of layers, not the name of a net"
    HELP = "write each layer in one cell, such as `3×3, 64, stride 2`"
    head: str
