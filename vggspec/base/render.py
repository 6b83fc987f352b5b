"""Reports as text for people, as JSON for editors, as annotations for GitHub."""

import json
import unicodedata
from collections.abc import Iterable, Sequence

from vggspec.base.diagnostic import Label, Report, Severity
from vggspec.base.source import Source, Span
from vggspec.base.wording import count

TAB = 4
MAX_LINE = 200  # longer ones are not written by hand
MAX_SHOWN = 100  # reports; nobody reads on
BOLD, BLUE, RED, YELLOW, RESET = "\033[1m", "\033[1;34m", "\033[1;31m", "\033[1;33m", "\033[0m"
TONE: dict[Severity, str] = {"error": RED, "warning": YELLOW}


def as_text(reports: Iterable[Report], *, color: bool = False) -> str:
    """Each report as an excerpt of the file with the offending text underlined.

    Of very many the first ones are shown, and how many more there are.
    """
    all_ = list(reports)
    texts = [_one(report, color=color) for report in all_[:MAX_SHOWN]]
    if len(all_) > MAX_SHOWN:
        texts.append(f"… and {count(len(all_) - MAX_SHOWN, 'more mistake')}")
    return "\n\n".join(texts)


def as_json(reports: Iterable[Report]) -> str:
    """One JSON array; lines and columns from 1, ends excluded; offsets in code points.

    Line endings count as one code point and a byte order mark as none. Text beyond ASCII is
    escaped, so that any terminal and any pipe can take it.
    """
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


def _one(report: Report, *, color: bool) -> str:
    what = report.what
    tone, bold, blue, reset = (
        (TONE[what.severity], BOLD, BLUE, RESET) if color else ("", "", "", "")
    )
    lines = [f"{tone}{what.severity}[{what.code}]{reset}{bold}: {shown(what.title())}{reset}"]
    source, span = report.source, report.span
    margin = " "
    if source is not None and span is not None:
        places = [Label(span, what.label()), *report.others]
        numbers = [source.locate(place.span.start).line for place in places]
        margin = " " * len(str(max(numbers)))
        start = source.locate(span.start)
        lines.append(f"{margin}{blue}-->{reset} {shown(source.name)}:{start.line}:{start.column}")
        lines.append(f"{margin} {blue}|{reset}")
        lines.extend(_excerpt(source, places, margin, tone, blue, reset))
    elif report.path is not None or source is not None:
        name = report.path if source is None else source.name
        lines.append(f"{margin}{blue}-->{reset} {shown(name or '')}")
    for word, text in (("help", what.help()), ("note", what.note())):
        if text:
            indent = f"\n{margin}   {' ' * (len(word) + 2)}"
            words = indent.join(shown(line) for line in text.split("\n"))
            lines.append(f"{margin} {blue}={reset} {bold}{word}{reset}: {words}")
    return "\n".join(lines)


def _excerpt(
    source: Source, places: Sequence[Label], margin: str, tone: str, blue: str, reset: str
) -> Iterable[str]:
    """The lines that hold the places, each with its underline; the first one is the main one."""
    order = sorted(range(len(places)), key=lambda i: places[i].span)
    previous: int | None = None
    for i in order:
        place, main = places[i], i == 0
        start = source.locate(place.span.start)
        is_long = source.line_span(start.line).end - source.line_span(start.line).start > MAX_LINE
        if previous is not None and start.line > previous + 1:
            yield f"{margin} {blue}.{reset}"
        text, before, width = _underlined(source, start.line, place.span)
        if start.line != previous or is_long:  # of a long line each place shows its own part
            number = str(start.line).rjust(len(margin))
            yield f"{blue}{number} |{reset} {text}".rstrip()
        previous = start.line
        mark = ("^" if main else "-") * max(width, 1)
        paint = tone if main else blue
        words = f" {shown(place.text)}" if place.text else ""
        yield f"{margin} {blue}|{reset} {' ' * before}{paint}{mark}{words}{reset}".rstrip()


def _underlined(source: Source, line: int, span: Span) -> tuple[str, int, int]:
    """The line as shown, the columns before the span and those it covers on this line.

    A line that no terminal holds is cut to the surroundings of the span.
    """
    whole = source.line_span(line)
    first, last, cut = whole.start, whole.end, ("", "")
    if whole.end - whole.start > MAX_LINE:
        first = max(whole.start, span.start - MAX_LINE // 4)
        last = min(whole.end, first + MAX_LINE)
        cut = ("…" if first > whole.start else "", "…" if last < whole.end else "")
    end = min(span.end, last)
    before = cut[0] + shown(source.text[first : span.start].expandtabs(TAB))
    upto = cut[0] + shown(source.text[first:end].expandtabs(TAB))
    text = cut[0] + shown(source.text[first:last].expandtabs(TAB)) + cut[1]
    return text, _width(before), _width(upto) - _width(before)


def _width(text: str) -> int:
    width = 0
    for char in text:
        if unicodedata.combining(char):
            continue
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


def shown(text: str) -> str:
    """``text`` with what a terminal would obey replaced by what it would show."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
