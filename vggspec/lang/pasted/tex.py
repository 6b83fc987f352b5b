"""``tabular`` of LaTeX, with the commands that tables of papers use and those the text defines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vggspec.base.catalogue import pasting
from vggspec.base.source import Source, Span
from vggspec.lang.pasted.cells import Layer, read_cell
from vggspec.lang.pasted.grid import MAX_COLUMNS, Desk, Grid, Row, place
from vggspec.lang.pasted.text import Building, Text

MAX_MORE = 1 << 16  # tokens, when the commands of the text are replaced by what they stand for
MAX_DEPTH = 24
MAX_CELLS = 1 << 14

_TOKEN = re.compile(
    r"(?P<comment>%[^\n]*\n?)"
    r"|(?P<end>\\\\\*?(?:\[\s{0,9}-?[0-9.]{1,9}\s{0,9}[a-z]{2}\])?|\\tabularnewline(?![A-Za-z]))"
    r"|(?P<command>\\(?:[A-Za-z@]+\*?|[^A-Za-z@]))"
    r"|(?P<mark>[{}&])"
    r"|(?P<space>\s+)"
    r"|(?P<char>.)",
    re.DOTALL,
)
_TABLES = r"(?:tabular[xy]?\*?|longtable|array)"

#: What stands for a character.
_CHARACTERS = {
    "\\times": "×", "\\_": "_", "\\%": "%", "\\&": "&", "\\#": "#", "\\$": "$", "\\,": " ",
    "\\;": " ", "\\:": " ", "\\ ": " ", "\\!": "", "\\quad": " ", "\\qquad": " ", "\\dagger": "†",
    "\\ddagger": "‡", "\\dag": "†", "\\ddag": "‡", "\\ast": "*", "\\newline": "\n", "\\to": "→",
    "\\rightarrow": "→", "\\[": "", "\\]": "", "\\(": "", "\\)": "", "\\-": "", "\\/": "",
    "\\linebreak": "\n", "\\lbrack": "[", "\\rbrack": "]", "\\par": "\n", "\\{": "{", "\\}": "}",
    "\\textbackslash": "\\", "\\cdot": "·", "\\star": "*", "\\S": "§", "\\P": "¶", "\\\n": " ",
}  # fmt: skip

#: Commands that change nothing of what is said; those with a number take as many arguments.
_QUIET = {
    "\\hline": 0, "\\toprule": 0, "\\midrule": 0, "\\bottomrule": 0, "\\addlinespace": 0,
    "\\cline": 1, "\\cmidrule": 1, "\\small": 0, "\\tiny": 0, "\\footnotesize": 0, "\\Large": 0,
    "\\scriptsize": 0, "\\normalsize": 0, "\\large": 0, "\\centering": 0, "\\it": 0, "\\rm": 0,
    "\\em": 0, "\\sf": 0, "\\tt": 0, "\\left": 0, "\\right": 0, "\\big": 0, "\\Big": 0,
    "\\bigl": 0, "\\bigr": 0, "\\Bigl": 0, "\\Bigr": 0, "\\vspace": 1, "\\hspace": 1,
    "\\vspace*": 1, "\\hspace*": 1, "\\cellcolor": 1, "\\rowcolor": 1, "\\color": 1, "\\label": 1,
    "\\arraybackslash": 0, "\\noindent": 0, "\\protect": 0, "\\displaystyle": 0, "\\hfill": 0,
    "\\raggedright": 0, "\\itshape": 0, "\\rowcolors": 3, "\\noalign": 1, "\\ttfamily": 0,
    "\\strut": 0, "\\specialrule": 3, "\\textstyle": 0, "\\endhead": 0, "\\endfirsthead": 0,
    "\\phantom": 1, "\\extracolsep": 1, "\\selectfont": 0, "\\rule": 2, "\\setlength": 2,
}  # fmt: skip

#: Commands whose last argument is the text, after as many that are not.
_WRAPPING = {
    "\\text": 0, "\\textrm": 0, "\\texttt": 0, "\\textit": 0, "\\textsc": 0, "\\textsf": 0,
    "\\emph": 0, "\\mathrm": 0, "\\mathit": 0, "\\mathsf": 0, "\\mathtt": 0, "\\mbox": 0,
    "\\hbox": 0, "\\underline": 0, "\\makecell": 0, "\\shortstack": 0, "\\thead": 0,
    "\\textcolor": 1, "\\rotatebox": 1, "\\multirow": 2, "\\parbox": 1, "\\ensuremath": 0,
    "\\textbf": 0, "\\mathbf": 0, "\\boldsymbol": 0, "\\bm": 0, "\\textnormal": 0,
    "\\resizebox": 2, "\\scalebox": 1, "\\tabincell": 1, "\\raisebox": 1, "\\colorbox": 1,
    "\\textsuperscript": 0, "\\textsubscript": 0, "\\operatorname": 0,
}  # fmt: skip
_BOLD = ("\\textbf", "\\mathbf", "\\boldsymbol", "\\bm")
_BOLD_FROM_HERE = ("\\bf", "\\bfseries")
_DROPPED = ("\\footnote", "\\cite", "\\citep", "\\citet", "\\ref", "\\tablefootnote")
_DEFINING = ("\\newcommand", "\\renewcommand", "\\providecommand", "\\newcommand*", "\\def")
_MATRICES = {
    "bmatrix": "[]",
    "pmatrix": "()",
    "matrix": "",
    "array": "",
    "tabular": "",
    "cases": "",
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Command:
    """What a command stands for."""

    arguments: int
    body: tuple[_Token, ...]


class _TexError(Exception):
    def __init__(self, what: str, start: int, end: int) -> None:
        super().__init__(what)
        self.what = what
        self.place = Span(start, end)


def has_tabular(text: str) -> bool:
    """Whether the text is LaTeX with a table, or rows of one."""
    if re.search(rf"\\begin\s*\{{{_TABLES}\}}", text):
        return True
    return re.search(r"(?<!\\)&(?!#?\w{1,30};)", text) is not None and "\\\\" in text


def read_tabular(desk: Desk) -> Grid | None:
    """The only table of layers of the text, or None and a report."""
    tokens = [
        _Token(match.lastgroup or "", match[0], *match.span())
        for match in _TOKEN.finditer(desk.source.text)
        if match.lastgroup != "comment"
    ]
    try:
        commands, rest = _definitions(tokens)
        bodies = _bodies(rest)
        tables = [_table(_expanded(body, commands), desk) for body in bodies]
    except _TexError as error:
        desk.report(pasting.Markup(what=error.what), error.place)
        return None
    with_layers = [grid for grid in tables if _has_layers(grid)]
    if len(with_layers) == 1:
        if len(tables) > 1 or _has_more(desk.source):
            desk.notes.add("what is outside of the table is not read")
        return with_layers[0]
    if not with_layers and len(tables) == 1:
        return tables[0]  # its cells say what is wrong with them
    if not with_layers:
        desk.report(pasting.NoTable(), Span(0, 0))
        return None
    lines = tuple(desk.source.locate(grid.rows[0].span.start).line for grid in with_layers)
    what = pasting.SeveralTables(found=len(with_layers), lines=lines[:8])
    desk.report(what, desk.source.line_span(lines[1]))
    return None


def _has_more(source: Source) -> bool:
    """Whether there is a caption or prose beside the table."""
    text = re.sub(r"(?m)%.*$", "", source.text)
    inside = re.sub(rf"(?s)\\begin\s*\{{{_TABLES}\}}.*\\end\s*\{{{_TABLES}\}}", "", text)
    return inside != text and re.search(r"\\caption|[A-Za-z]{3,} [A-Za-z]{3,}", inside) is not None


def _has_layers(grid: Grid) -> bool:
    for row in grid.rows:
        for cell in row.cells:
            read = read_cell(cell.text)
            if not read.troubles and any(isinstance(item, Layer) for item in read.items):
                return True
    return False


def _definitions(tokens: list[_Token]) -> tuple[dict[str, _Command], list[_Token]]:
    """What the text defines, and the rest of it."""
    commands: dict[str, _Command] = {}
    rest: list[_Token] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind != "command" or token.text not in _DEFINING:
            rest.append(token)
            i += 1
            continue
        i = _skip_space(tokens, i + 1)
        name, i = _argument(tokens, i, token)
        names = [one.text for one in name if one.kind != "space"]
        arguments = 0
        i = _skip_space(tokens, i)
        while i < len(tokens) and tokens[i].text in ("[", "#"):
            text = "".join(one.text for one in tokens[i : i + 3])
            number = re.fullmatch(r"\[([1-9])\]", text) or re.match(r"#([1-9])", text)
            if number is None:
                raise _TexError("this definition is not understood", token.start, token.end)
            arguments = int(number[1])
            i = _skip_space(tokens, i + (3 if text[0] == "[" else 2))
        body, i = _argument(tokens, i, token)
        if len(names) != 1 or not names[0].startswith("\\"):
            raise _TexError("this definition is not understood", token.start, token.end)
        commands[names[0]] = _Command(arguments, tuple(body))
    return commands, rest


def _skip_space(tokens: Sequence[_Token], i: int) -> int:
    while i < len(tokens) and tokens[i].kind == "space":
        i += 1
    return i


def _argument(tokens: Sequence[_Token], i: int, owner: _Token) -> tuple[list[_Token], int]:
    """The tokens of ``{…}``, or the one token, that begins at ``i``; and what follows."""
    i = _skip_space(tokens, i)
    if i >= len(tokens):
        raise _TexError(f"`{owner.text}` lacks an argument", owner.start, owner.end)
    if tokens[i].text != "{":
        return [tokens[i]], i + 1
    depth = 0
    for j in range(i, len(tokens)):
        if tokens[j].text == "{":
            depth += 1
        elif tokens[j].text == "}":
            depth -= 1
            if depth == 0:
                return list(tokens[i + 1 : j]), j + 1
    raise _TexError("this brace is not closed", tokens[i].start, tokens[i].end)


def _bodies(tokens: list[_Token]) -> list[list[_Token]]:
    r"""What is between ``\begin{tabular}`` and its end; all of it, where there is none."""
    bodies: list[list[_Token]] = []
    open_: list[tuple[str, int]] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.text not in ("\\begin", "\\end"):
            i += 1
            continue
        name, after = _argument(tokens, i + 1, token)
        word = "".join(one.text for one in name).strip()
        if not re.fullmatch(_TABLES, word):
            i = after
            continue
        if token.text == "\\begin":
            after = _skip_options(tokens, after)
            takes = 2 if word[:-1] in ("tabular", "tabularx") and word[-1] in "xy*" else 1
            for _ in range(takes):
                _, after = _argument(tokens, after, token)
                after = _skip_options(tokens, after)
            open_.append((word, after))
            if len(open_) > MAX_DEPTH:
                raise _TexError("tables are nested too deeply", token.start, token.end)
        elif not open_ or open_[-1][0] != word:
            raise _TexError(f"`\\end{{{word}}}` has no beginning", token.start, token.end)
        else:
            _, start = open_.pop()
            if not open_:
                bodies.append(tokens[start:i])
        i = after
    if open_:
        place = tokens[min(open_[0][1], len(tokens)) - 1]
        raise _TexError(f"`\\begin{{{open_[0][0]}}}` has no end", place.start, place.end)
    return bodies or [tokens]


def _skip_options(tokens: Sequence[_Token], i: int) -> int:
    """After ``[t]``, if that is next."""
    if i < len(tokens) and tokens[i].text == "[":
        for j in range(i, min(i + 30, len(tokens))):
            if tokens[j].text == "]":
                return j + 1
    return i


def _expanded(tokens: Sequence[_Token], commands: dict[str, _Command]) -> list[_Token]:
    """The tokens with the commands of the text replaced, at the places where they are used."""
    found: list[_Token] = []
    # What is still to be read, the next token last, and how deep in definitions it is.
    waiting: list[tuple[_Token, int]] = [(token, 0) for token in reversed(tokens)]
    most = len(waiting) + MAX_MORE
    while waiting:
        token, depth = waiting.pop()
        command = commands.get(token.text) if token.kind == "command" else None
        if command is None:
            found.append(token)
        elif depth >= MAX_DEPTH:
            raise _TexError(f"`{token.text}` is defined by itself", token.start, token.end)
        else:
            given = [_taken(waiting, token) for _ in range(command.arguments)]
            end = max([token.end, *(one.end for part in given for one, _ in part)])
            body: list[tuple[_Token, int]] = []
            is_number = False
            for i, one in enumerate(command.body):
                if is_number:
                    is_number = False
                    continue
                following = command.body[i + 1].text if i + 1 < len(command.body) else ""
                if one.text == "#" and following.isdigit() and 0 < int(following) <= len(given):
                    body += given[int(following) - 1]
                    is_number = True
                else:
                    body.append((replace(one, start=token.start, end=end), depth + 1))
            waiting += reversed(body)
        if len(found) + len(waiting) > most:
            raise _TexError("the text becomes too long by its definitions", token.start, token.end)
    return found


def _taken(waiting: list[tuple[_Token, int]], owner: _Token) -> list[tuple[_Token, int]]:
    """One argument from the end of ``waiting``, without its braces."""
    while waiting and waiting[-1][0].kind == "space":
        waiting.pop()
    if not waiting:
        raise _TexError(f"`{owner.text}` lacks an argument", owner.start, owner.end)
    first = waiting.pop()
    if first[0].text != "{":
        return [first]
    depth = 1
    found: list[tuple[_Token, int]] = []
    while waiting:
        one = waiting.pop()
        depth += (one[0].text == "{") - (one[0].text == "}")
        if depth == 0:
            return found
        found.append(one)
    raise _TexError("this brace is not closed", first[0].start, first[0].end)


def _table(tokens: Sequence[_Token], desk: Desk) -> Grid:
    """The rows of what is between the beginning and the end of a table."""
    rows: list[Row] = []
    cells: list[tuple[Text, Span, int]] = []
    is_exact = False
    start = number = 0
    depth = inner = 0
    for i, token in enumerate((*tokens, _Token("end", "", -1, -1))):
        depth += (token.text == "{") - (token.text == "}")
        inner += (token.text == "\\begin") - (token.text == "\\end")
        is_last = token.start < 0
        if not is_last and (
            depth > 0 or inner > 0 or not (token.kind == "end" or token.text == "&")
        ):
            continue
        if is_last and depth > 0:
            brace = next(one for one in tokens if one.text == "{")
            raise _TexError("a brace is not closed", brace.start, brace.end)
        number += 1
        if number > MAX_CELLS and not is_last:
            raise _TexError(f"a table has more than {MAX_CELLS} cells", token.start, token.end)
        shown = _Cell(desk)
        shown.read(tokens[start:i], bold=False, depth=0)
        text = shown.building.built()
        at = tokens[min(start, len(tokens) - 1)].start if tokens else 0
        span = text.span(0, len(text.text)) if text.text else Span(at, at)
        cells.append((text, span, shown.width))
        is_exact = is_exact or shown.width > 1
        start = i + 1
        if token.kind == "end":
            placed = place(cells, desk)
            filled = tuple(cell for cell in placed if cell.text.text)
            ends = max((cell.span.end for cell in filled), default=cells[0][1].end)
            begins = min((cell.span.start for cell in filled), default=ends)
            rows.append(Row(filled, Span(begins, ends), sum(cell.width for cell in placed)))
            cells = []
    columns = max((cell.first + cell.width for row in rows for cell in row.cells), default=0)
    return Grid(tuple(row for row in rows if row.cells), columns, is_exact)


class _Cell:
    """The text of a cell while it is read."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.building = Building()
        self.width = 1

    def read(self, tokens: Sequence[_Token], *, bold: bool, depth: int) -> None:
        """Add what the tokens say."""
        if depth > MAX_DEPTH:
            raise _TexError("commands are nested too deeply", tokens[0].start, tokens[0].end)
        i = 0
        while i < len(tokens):
            token = tokens[i]
            i += 1
            match token.kind:
                case "mark" if token.text == "{":
                    inner, i = _argument(tokens, i - 1, token)
                    self.read(inner, bold=bold, depth=depth + 1)
                case "mark" if token.text == "}":
                    raise _TexError("this brace was not opened", token.start, token.end)
                case "mark":
                    self._add(", ", token, bold=bold)
                case "end":
                    self._add("\n", token, bold=bold)
                case "space":
                    self._add(" ", token, bold=bold)
                case "char":
                    text = {"$": "", "~": " "}.get(token.text, token.text)
                    self._add(text, token, bold=bold)
                case _ if token.text in _BOLD_FROM_HERE:
                    bold = True
                case _:
                    i = self._command(tokens, i, token, bold=bold, depth=depth)

    def _command(
        self, tokens: Sequence[_Token], i: int, token: _Token, *, bold: bool, depth: int
    ) -> int:
        name = token.text
        if name in _CHARACTERS:
            self._add(_CHARACTERS[name], token, bold=bold)
            return i if not name[-1].isalpha() else _skip_space(tokens, i)
        if name in _QUIET:
            if name in ("\\left", "\\right") and i < len(tokens) and tokens[i].text == ".":
                return i + 1
            if name == "\\cmidrule" and i < len(tokens) and tokens[i].text == "(":
                while i < len(tokens) and tokens[i - 1].text != ")":
                    i += 1
            for _ in range(_QUIET[name]):
                i = _skip_options(tokens, i)
                _, i = _argument(tokens, i, token)
            return i
        if name == "\\multicolumn":
            number, i = _argument(tokens, i, token)
            _, i = _argument(tokens, i, token)
            inner, i = _argument(tokens, i, token)
            written = "".join(one.text for one in number).strip()
            if not re.fullmatch(r"[0-9]{1,3}", written) or not int(written):
                raise _TexError("`\\multicolumn` lacks its number", token.start, token.end)
            self.width = max(self.width, min(int(written), MAX_COLUMNS + 1))
            self.read(inner, bold=bold, depth=depth + 1)
            return i
        if name in _WRAPPING:
            i = _skip_options(tokens, i)
            for _ in range(_WRAPPING[name]):
                _, i = _argument(tokens, i, token)
                i = _skip_options(tokens, i)
            inner, i = _argument(tokens, i, token)
            if name in ("\\textsuperscript", "\\textsubscript"):
                self._add("^", token, bold=bold)
            self.read(inner, bold=bold or name in _BOLD, depth=depth + 1)
            return i
        if name in _DROPPED:
            i = _skip_options(tokens, i)
            _, i = _argument(tokens, i, token)
            self._desk.notes.add(f"`{name}` is dropped", Span(token.start, token.end))
            return i
        if name in ("\\begin", "\\end"):
            return self._environment(tokens, i, token, bold=bold)
        raise _TexError(f"`{name}` is not known", token.start, token.end)

    def _environment(self, tokens: Sequence[_Token], i: int, token: _Token, *, bold: bool) -> int:
        inner, i = _argument(tokens, i, token)
        word = "".join(one.text for one in inner).strip()
        marks = _MATRICES.get(word)
        if marks is None:
            raise _TexError(f"`{word}` in a cell is not known", token.start, token.end)
        if token.text == "\\end":
            self._add(marks[1:], token, bold=bold)
            return i
        if word in ("array", "tabular"):
            i = _skip_options(tokens, i)
            _, i = _argument(tokens, i, token)
        self._add(marks[:1], token, bold=bold)
        return i

    def _add(self, text: str, token: _Token, *, bold: bool) -> None:
        self.building.add(text, token.start, token.end, bold=bold)
