"""Reports as text for people, as JSON for editors, as annotations for GitHub."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vggspec.base.diagnostic import Label, Report, Severity
from vggspec.base.source import Source, Span
from vggspec.base.wording import columns, count, wrapped

TAB = 4
MAX_LINE = 200  # columns of a source line; nobody writes longer ones by hand
MAX_SHOWN = 100  # reports
BOLD, BLUE, RED, YELLOW, RESET = "\033[1m", "\033[1;34m", "\033[1;31m", "\033[1;33m", "\033[0m"
TONE: dict[Severity, str] = {"error": RED, "warning": YELLOW}


def as_text(reports: Iterable[Report], *, color: bool = False, width: int | None = None) -> str:
    """Each report as an excerpt of the file with the marked text underlined.

    Shows the first ``MAX_SHOWN`` and counts the rest. With a ``width`` in columns, words are
    wrapped and source lines are cut to it.
    """
    all_ = list(reports)
    texts = [_one(report, color=color, width=width) for report in all_[:MAX_SHOWN]]
    if len(all_) > MAX_SHOWN:
        texts.append(f"… and {count(len(all_) - MAX_SHOWN, 'more mistake')}")
    return "\n\n".join(texts)


def as_json(reports: Iterable[Report]) -> str:
    """One JSON array; lines and columns from 1, ends excluded; offsets in code points.

    Line endings count as one code point and a byte order mark as none. Text beyond ASCII is
    escaped, so that any terminal and any pipe can take it.
    """
    import json

    return json.dumps([as_dict(report) for report in reports], indent=2)


def as_dict(report: Report) -> dict[str, object]:
    """One report as plain data."""
    what = report.what
    return {
        "code": what.code,
        "severity": what.severity,
        "title": what.title(),
        "label": what.label(),
        "help": what.help(),
        "note": what.note(),
        "file": report.source.name if report.source else report.path,
        "span": _span_dict(report.source, report.span),
        "others": [
            {"span": _span_dict(report.source, other.span), "label": other.text}
            for other in report.others
        ],
    }


def _span_dict(source: Source | None, span: Span | None) -> dict[str, object] | None:
    if source is None or span is None:
        return None
    start, end = source.locate(span.start), source.locate(span.end)
    return {
        "start": {"line": start.line, "column": start.column, "offset": span.start},
        "end": {"line": end.line, "column": end.column, "offset": span.end},
    }


def as_github(reports: Iterable[Report]) -> str:
    """Workflow commands, one a report, that GitHub shows beside the line."""
    return "\n".join(_github(report) for report in reports)


def _github(report: Report) -> str:
    what, place = report.what, []
    if report.source is not None:
        place.append(f"file={_property(report.source.name)}")
        if report.span is not None:
            start = report.source.locate(report.span.start)
            end = report.source.locate(report.span.end)
            place.append(f"line={start.line},col={start.column},endLine={end.line}")
            if end.line == start.line:
                place.append(f"endColumn={max(end.column, start.column + 1)}")
    elif report.path:
        place.append(f"file={_property(report.path)}")
    place.append(f"title={_property(what.code)}")
    words = [what.title(), what.label(), what.help() and f"help: {what.help()}"]
    message = "\n".join(shown(line) for word in words if word for line in word.split("\n"))
    return f"::{what.severity} {','.join(place)}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(shown(text)).replace(":", "%3A").replace(",", "%2C")


def _one(report: Report, *, color: bool, width: int | None) -> str:
    what = report.what
    tone, bold, blue, reset = (
        (TONE[what.severity], BOLD, BLUE, RESET) if color else ("", "", "", "")
    )
    head = f"{what.severity}[{what.code}]"
    first, *more = _wrapped(what.title(), width, len(head) + 2)
    lines = [f"{tone}{head}{reset}{bold}: {first}{reset}"]
    lines += [f"{' ' * (len(head) + 2)}{bold}{line}{reset}" for line in more]
    source, span = report.source, report.span
    margin = " "
    if source is not None and span is not None:
        places = [Label(span, what.label()), *report.others]
        numbers = [source.locate(place.span.start).line for place in places]
        margin = " " * len(str(max(numbers)))
        start = source.locate(span.start)
        lines.append(f"{margin}{blue}-->{reset} {shown(source.name)}:{start.line}:{start.column}")
        lines.append(f"{margin} {blue}|{reset}")
        lines.extend(_Excerpt(source, margin, width, tone, blue, reset).lines(places))
    elif report.path is not None or source is not None:
        name = report.path if source is None else source.name
        lines.append(f"{margin}{blue}-->{reset} {shown(name or '')}")
    for word, text in (("help", what.help()), ("note", what.note())):
        if text:
            indent = len(margin) + len(word) + 5
            words = f"\n{' ' * indent}".join(_wrapped(text, width, indent))
            lines.append(f"{margin} {blue}={reset} {bold}{word}{reset}: {words}")
    return "\n".join(lines)


def _wrapped(text: str, width: int | None, indent: int) -> list[str]:
    """The lines of ``text`` as shown, for a terminal of ``width`` after ``indent`` columns."""
    room = None if width is None else width - indent
    return [part for line in text.split("\n") for part in wrapped(shown(line), room)]


@dataclass(frozen=True, slots=True)
class _Excerpt:
    """The part of a source that a report shows."""

    source: Source
    margin: str
    """As wide as the line numbers."""

    width: int | None
    tone: str
    blue: str
    reset: str

    def lines(self, places: Sequence[Label]) -> Iterable[str]:
        """The lines with the places, each place underlined; the first place is the main one."""
        source, blue, reset = self.source, self.blue, self.reset
        order = sorted(range(len(places)), key=lambda i: places[i].span)
        previous: int | None = None
        for i in order:
            place, main = places[i], i == 0
            line = source.locate(place.span.start).line
            is_long = len(source.line_text(line)) > self._room
            if previous is not None and line > previous + 1:
                yield f"{self.margin} {blue}.{reset}"
            text, before, marked = self._underlined(line, place.span)
            if line != previous or is_long:  # each place shows its own part of a long line
                number = str(line).rjust(len(self.margin))
                yield f"{blue}{number} |{reset} {text}".rstrip()
            previous = line
            mark = ("^" if main else "-") * max(marked, 1)
            paint = self.tone if main else blue
            lead = f"{self.margin} {blue}|{reset} "
            label = shown(place.text)
            if self.width is None or before + len(mark) + 1 + columns(label) <= self._room:
                yield f"{lead}{' ' * before}{paint}{mark} {label}".rstrip() + reset
                continue
            yield f"{lead}{' ' * before}{paint}{mark}{reset}"
            indent = min(before, self._room // 2)  # below the mark, where there is room
            for words in wrapped(label, self._room - indent):
                yield f"{lead}{' ' * indent}{paint}{words}{reset}"

    @property
    def _room(self) -> int:
        """The columns for a source line."""
        if self.width is None:
            return MAX_LINE
        return min(MAX_LINE, max(self.width - len(self.margin) - 3, 20))

    def _underlined(self, line: int, span: Span) -> tuple[str, int, int]:
        """The line as shown, the columns before the span and those of the span on this line.

        A line that is too long is cut to the surroundings of the span.
        """
        source, whole = self.source, self.source.line_span(line)
        first, last, cut = whole.start, whole.end, ("", "")
        room = self._room
        if whole.end - whole.start > room:
            room -= 2 * (self.width is not None)  # for the dots
            first = max(whole.start, min(span.start - room // 4, whole.end - room))
            last = min(whole.end, first + room)
            cut = ("…" if first > whole.start else "", "…" if last < whole.end else "")
        end = min(span.end, last)
        before = cut[0] + shown(source.text[first : span.start].expandtabs(TAB))
        upto = cut[0] + shown(source.text[first:end].expandtabs(TAB))
        text = cut[0] + shown(source.text[first:last].expandtabs(TAB)) + cut[1]
        return text, columns(before), columns(upto) - columns(before)


def shown(text: str) -> str:
    """``text`` with control characters as escapes, which no terminal obeys."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
