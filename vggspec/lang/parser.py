"""Text to syntax tree, line by line, so that all mistakes of a file are found in one run."""

import re
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import cache_from_source
from itertools import islice
from pathlib import Path
from typing import cast

from lark import Lark, UnexpectedInput

from vggspec.base.catalogue import files, syntax
from vggspec.base.diagnostic import Report, report
from vggspec.base.reports import Reports
from vggspec.base.source import Source, Span
from vggspec.lang.assembly import Assembly
from vggspec.lang.ast import BlockHead, Document, Line, SectionHead, Statement, Word
from vggspec.lang.mistakes import Rule, almost_a_block, almost_a_head, brackets, unreadable
from vggspec.lang.statements import ToAst

GRAMMAR = Path(__file__).with_name("grammar.lark")

MAX_WORDS = 1 << 14  # and marks; a file of more takes more than a second

#: Dashes in place of a hyphen, in pasted text.
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u00ad"
_UNDASH = str.maketrans(dict.fromkeys(DASHES, "-"))

MAX_WORD = 200
MAX_PATH = 1024
_LONG_WORD = re.compile(
    rf'"[^"]*"|\{{[^{{}}|"]{{{MAX_WORD + 1},}}'
    rf'|(?<![^\s|(),:#"*\[\]+&])[^\s|(),:#"*\[\]+&]{{{MAX_WORD + 1},}}'
)
_COUNTED = re.compile(r'#.*|(?P<word>"[^"\n]*"?|\*\*?|[|(),:\[\]+&]|[^\s|(),:#"*\[\]+&]+)')

_BLOCK = re.compile(r"\s*block\s", re.IGNORECASE)
_FOREIGN_COMMENT = re.compile(r"(?<!\S)//")


def parse(source: Source) -> Document:
    """The syntax tree of a spec file.

    Raises:
        VggspecError: with every mistake of the text, not only the first.
    """
    document, reports = parse_leniently(source)
    reports.raise_if_any()
    return document


def parse_leniently(source: Source) -> tuple[Document, Reports]:
    """The readable part of a spec file, and the mistakes in the rest."""
    document, found = _parsed(source)
    return document, Reports(found)


def count_words(source: Source) -> int:
    """Words, numbers and marks outside comments, to which the time of reading is proportional."""
    return sum(1 for _ in _words(source))


def _words(source: Source) -> Iterator[re.Match[str]]:
    return (match for match in _COUNTED.finditer(source.text) if match["word"])


@lru_cache(maxsize=8)  # nets are often like nets of the same file
def _parsed(source: Source) -> tuple[Document, tuple[Report, ...]]:
    reports = Reports()
    lines: list[Line] = []
    number_of_words = count_words(source)
    if number_of_words > MAX_WORDS:
        last = next(islice(_words(source), MAX_WORDS, None))
        what = files.TooManyWords(found=number_of_words, limit=MAX_WORDS)
        reports.add(report(what, source, Span(*last.span())))
        return Document((), (), source), reports.sorted()
    broken: dict[int, Rule] = {}
    section: SectionHead | BlockHead | None = None
    section_indent = 0
    for number in range(1, source.num_lines + 1):
        span = source.line_span(number)
        text = source.slice(span)
        code, comment = _split_comment(text)
        statement: Statement | None = None
        if code.strip():
            indent = _indent(text)
            if section is not None and indent <= section_indent:
                section = None
            rule: Rule = "column"
            if section is not None:
                rule = "setting" if isinstance(section, SectionHead) else "body"
            elif code.lstrip().startswith("|"):
                rule = "row"
            start = span.start + len(code) - len(code.lstrip())
            end = span.start + len(code.rstrip())
            statement = _statement(source, Span(start, end), rule, reports)
            if isinstance(statement, SectionHead | BlockHead):
                section, section_indent = statement, indent
            if statement is None and rule == "column" and _BLOCK.match(code):
                # Its lines are not to be read as layers of a net.
                statement = BlockHead(Word("", span), (), span, is_complete=False)
                section, section_indent = statement, indent
            if statement is None:
                broken[number - 1] = rule
        if reports.is_full:
            return Document(tuple(lines), (), source), reports.sorted()
        lines.append(_BLANK if statement is None and comment is None else Line(statement, comment))
    specs, blocks = Assembly(source, reports).specs(lines, broken)
    if reports.is_full:
        specs = ()
    return Document(tuple(lines), specs, source, blocks), reports.sorted()


_BLANK = Line(None, None)


def _split_comment(text: str) -> tuple[str, str | None]:
    if "#" not in text:
        return text, None
    quoted = False
    for i, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == "#" and not quoted:
            return text[:i], text[i + 1 :].strip()
    return text, None


def _indent(text: str) -> int:
    expanded = text.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


@cache
def _lark() -> Lark:
    grammar = GRAMMAR.read_text("utf-8")
    start = ["column", "row", "body", "setting"]
    return Lark(grammar, parser="lalr", start=start, cache=_tables())


def _tables() -> str | bool:
    """Where lark keeps the tables that it makes of the grammar: beside the bytecode of this module,
    whose rules they share. Python writes it where it may, unless it is told not to; who can replace
    the one can replace the other. Tables of another grammar or lark are made anew.
    """
    if sys.dont_write_bytecode:
        return False
    return f"{cache_from_source(__file__).removesuffix('.pyc')}.lark"


def _statement(source: Source, span: Span, rule: Rule, reports: Reports) -> Statement | None:
    """The statement in ``span``, or None and a report."""
    text = _without_dashes(source, span, rule, reports)
    if _has_unusable(source, span, text, reports):
        return None
    if rule == "column":
        head = almost_a_head(text)
        if head is not None:
            kind, what, start, end = head
            reports.add(report(what, source, Span(span.start + start, span.start + end)))
            return SectionHead(kind, span)
    slashes = _FOREIGN_COMMENT.search(text) if rule == "column" else None
    if slashes is not None:
        at = span.start + slashes.start()
        foreign = syntax.Unexpected(found="//", suggestion="#")
        reports.add(report(foreign, source, Span(at, at + 2)))
        text = text[: slashes.start()].rstrip()
        if not text:
            return None
    if rule != "setting":
        wrong = brackets(text, rule)
        if wrong is not None:
            what, start, end = wrong
            reports.add(report(what, source, Span(span.start + start, span.start + end)))
            return None
    if rule == "row" and not text.endswith("|"):
        # The row is read as if its last bar were there, so that its cells are checked too.
        is_hidden = (
            "|" in source.text[span.end : source.line_span(source.locate(span.start).line).end]
        )
        reports.add(report(syntax.OpenRow(is_hidden=is_hidden), source, Span(span.end, span.end)))
        text += "|"
    try:
        # The line alone, not a slice of the file: positions are moved when the tree is read.
        tree = _lark().parse(text, start=rule)
    except UnexpectedInput as error:
        block = almost_a_block(text, error) if rule == "column" else None
        if block is not None:
            name, what, start, end = block
            reports.add(report(what, source, Span(span.start + start, span.start + end)))
            word = Word(name, Span(span.start, span.end))
            return BlockHead(word, (), span, is_complete=False)
        reports.add(unreadable(source, span, text, rule, error))
        return None
    reader = ToAst(span)
    statement = cast("Statement", reader.transform(tree))
    for what, place in reader.mistakes:
        reports.add(report(what, source, place))
    return None if reader.mistakes else statement


def _without_dashes(source: Source, span: Span, rule: Rule, reports: Reports) -> str:
    """The text with a hyphen for each dash that looks like one, and the words that contain them."""
    text = source.slice(span)
    straight = text.translate(_UNDASH)
    if straight == text:
        return text
    for word in re.finditer(r"[^\s|(),]+", text):
        dash = next((char for char in word[0] if char in DASHES), None)
        if dash is None:
            continue
        if rule == "setting" and re.fullmatch(r"\d+\D\d+", word[0]):
            continue  # `256–512` is meant as a range, which the section says better
        what = syntax.PastedDash(dash=dash, corrected=word[0].translate(_UNDASH))
        at = span.start + word.start() + word[0].index(dash)
        reports.add(report(what, source, Span(at, at + 1)))
    return straight


def _has_unusable(source: Source, span: Span, text: str, reports: Reports) -> bool:
    """Report words and characters that no line may contain."""
    found = False
    for word in _LONG_WORD.finditer(text):
        limit = MAX_PATH if word[0].startswith('"') else MAX_WORD
        if len(word[0]) <= limit:
            continue
        what = syntax.WordTooLong(length=len(word[0]), limit=limit)
        at = Span(span.start + word.start(), span.start + word.end())
        reports.add(report(what, source, at))
        found = True
    if text.isprintable():
        return found
    for i, char in enumerate(text):
        if not char.isprintable() and not char.isspace():
            at = Span(span.start + i, span.start + i + 1)
            reports.add(report(syntax.StrayCharacter(character=char), source, at))
            return True
    return found
