"""Lines that no rule of the grammar fits: the mistake, and a suggestion.

The grammar knows where parsing failed and what it expected there. This module guesses the line
that was meant from common ways to write it; a guess is only ever a suggestion.
"""

import os
import re
from collections.abc import Callable
from typing import Literal, cast

from lark import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from vggspec.base.catalogue import layers, syntax
from vggspec.base.diagnostic import Diagnostic, Report, report
from vggspec.base.source import Source, Span
from vggspec.base.wording import nearest
from vggspec.lang.sections import likely, unindented

Rule = Literal["column", "row", "body", "setting"]

KEYWORDS = ("net", "input", "like", "train:", "test:")

MAX_DEPTH = 16  # of brackets in brackets

#: Terminals of the grammar in plain words, in the order of messages.
EXPECTED = {
    "WORD": "a word",
    "SIZE": "a size such as `224x224`",
    "NUMBER": "a number",
    "STRING": "a file name in quotation marks",
    "_UP": "`up to` and a layer",
    "_TO": "`to`",
    "_WEIGHT": "`weight layers`",
    "LAYERS": "`layers`",
    "PARAMETERS": "`parameters`",
    "BAR": "`|`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "$END": "the end of the line",
}

#: Characters around a mistake that are searched for the intended word.
REACH = 80

_NOT_IN_A_CELL = re.compile(r"(net|like|train|test)(?=[\s:\"]|$)", re.IGNORECASE)
_WORD = re.compile(r'[^\s|(),:#"*×\[\]+&]+')
#: A repeat where a line, a cell or a branch begins, and a bracket after it.
_REPEAT_BEFORE = re.compile(
    r"(?:^|[\[+&|(])\s*(?:\*\*\s*)?(?P<times>(\d{1,9})(?:\s*[x×*])?|[x×]\s*(\d{1,9}))\s*(?=\[)",
    re.IGNORECASE,
)


def brackets(text: str, rule: Rule) -> tuple[Diagnostic, int, int] | None:
    """The first mistake in how the brackets of a line are nested, and its place."""
    opened: list[int] = []
    brace: int | None = None
    where = "in its cell" if rule == "row" else "on this line"
    quoted = False
    for i, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        if quoted:
            continue
        if brace is not None and char in '{|"':
            break
        if char == "{":
            brace = i
        elif char == "}":
            brace = None
        elif brace is not None:
            continue
        elif char == "[":
            opened.append(i)
            if len(opened) > MAX_DEPTH:
                return syntax.BracketsTooDeep(limit=MAX_DEPTH), i, i + 1
        elif char == "]":
            if not opened:
                return syntax.StrayBracket(), i, i + 1
            opened.pop()
        elif char == "|" and opened:
            break
    if brace is not None:
        return syntax.OpenBrace(), brace, brace + 1
    if opened:
        return syntax.OpenBracket(where=where), opened[-1], opened[-1] + 1
    before = _REPEAT_BEFORE.search(text)
    if before is not None:
        found, start = before["times"].rstrip(), before.start("times")
        what = syntax.RepeatBefore(found=found, times=before[2] or before[3])
        return what, start, start + len(found)
    return None


def unreadable(source: Source, line: Span, text: str, rule: Rule, error: UnexpectedInput) -> Report:
    """The report for a line that cannot be parsed; ``text`` is the part that was parsed."""
    at, found, accepts = _place(text, error)

    def here(what: Diagnostic, start: int, end: int) -> Report:
        return report(what, source, Span(line.start + start, min(line.start + end, line.end)))

    if found == '"' and text.count('"') % 2:
        return here(syntax.UnclosedQuote(), at, len(text))
    bold = _lonely_bold(text, at, found)
    if bold is not None:
        return here(syntax.UnclosedBold(), bold, bold + 2)
    if found in ("+", "&"):
        return here(syntax.JoinOutsideBracket(sign=found, in_block=rule == "body"), at, at + 1)
    if rule in ("column", "body"):
        first = _WORD.match(text)
        word = first[0] if first else ""
        suggestion = _like_here(source, text) or corrected(text, at)
        setting = unindented(word, source, line.start) if rule == "column" else None
        if suggestion is None and setting is not None:
            return here(setting, 0, len(word))
        known = None if suggestion or rule == "body" else nearest(word, KEYWORDS)
        if known is not None and known.rstrip(":") != word.casefold():
            return here(layers.UnknownLayer(word=word, suggestion=known), 0, len(word))
    elif rule == "row":
        start = text.rfind("|", 0, at) + 1
        start += len(text[start:at]) - len(text[start:at].lstrip())
        end = text.find("|", at)
        cell = text[start : end if end >= 0 else len(text)].rstrip()
        if _NOT_IN_A_CELL.match(cell):
            accepts, suggestion = {"_INPUT"}, None
            at, found = start, cell.partition(":")[0].split()[0]
        else:
            suggestion = corrected(cell, at - start)
    else:
        suggestion = likely(text)
    what = syntax.Unexpected(
        found=found, expected=_expected(accepts, text[:at].rstrip(), rule), suggestion=suggestion
    )
    return here(what, at, at + len(found))


def _place(text: str, error: UnexpectedInput) -> tuple[int, str, set[str]]:
    """Where parsing failed, the text there, and what was expected."""
    if isinstance(error, UnexpectedCharacters):
        at = cast("int", error.pos_in_stream)
        for word in _WORD.finditer(text, max(0, at - REACH)):
            if word.start() <= at < word.end():
                return word.start(), word[0], set(error.allowed or ())
        return at, text[at], set(error.allowed or ())
    assert isinstance(error, UnexpectedToken)
    if error.token.type == "$END":
        return len(text), "", error.accepts
    return cast("int", error.token.start_pos), str(error.token), error.accepts


def _lonely_bold(text: str, at: int, found: str) -> int | None:
    """The last bold mark of the cell, where it has no partner."""
    if found not in ("", "|"):
        return None
    start = text.rfind("|", 0, at) + 1
    if text.count("**", start, at) % 2 == 0:
        return None
    return text.rindex("**", start, at)


def _expected(accepts: set[str], before: str, rule: Rule) -> tuple[str, ...]:
    if rule == "setting":
        return ("words, numbers or a file name in quotation marks",)
    if {"COMMA", "RPAR"} <= accepts:
        return ("`,`", "`)`")
    if before.endswith("(") and "RPAR" in accepts:
        return ("an option", "`)`")
    if before.endswith(","):
        return ("an option",)
    if rule == "row" and "_INPUT" in accepts:
        return ("layers", "an input", "a claim")
    if "WORD" in accepts:
        ends = tuple(EXPECTED[end] for end in ("BAR", "$END") if end in accepts)
        if ends and "NUMBER" not in accepts and "SIZE" not in accepts:
            return ("another layer", *ends[:1])
        if before.casefold().endswith((" as", "net", " to")):
            return ("a name",)
        if before.endswith("**"):
            return ("a layer",)
    if "SIZE" in accepts and rule == "column":
        return (EXPECTED["SIZE"],)
    words = tuple(text for terminal, text in EXPECTED.items() if terminal in accepts)
    return words if len(words) <= 5 else ()


def corrected(text: str, at: int) -> str | None:
    """The probable meaning of a line of a column, or of the part around ``at``."""
    short = text if len(text) <= REACH else ""
    first = _WORD.match(short)
    keyword = first[0].casefold() if first else ""
    if keyword in ("input", "like", "net"):
        return {"input": _input, "like": _like, "net": _net}[keyword](short)
    claim = _claim(short)
    if claim is not None:
        return claim
    if re.search(r"\sas\s+\S*\s*$", text[max(0, at - REACH) : at], re.IGNORECASE):
        return None  # a name, whatever it looks like
    start = max(0, at - REACH)
    near = text[start : at + REACH]
    for pattern, form in _LAYERS:
        for match in re.finditer(pattern, near, re.IGNORECASE):
            if match.start() <= at - start < max(match.end(), 1) or (
                match.end() == len(near) == at - start
            ):
                return _if_sound(form(match))
    if text[at : at + 1] == "," and "(" not in short and short:
        words = [word for word in re.split(r"[\s,]+", short) if word.casefold() != "relu"]
        return _if_sound(" ".join(words).strip())
    return None


#: A pattern of layers as they are written. A suggestion of anything else would be a mistake itself.
SOUND = (
    r"(?i:(?:(?:up)?conv\d+(?:x\d+)?-\d+(?:/\d+)?|dwconv\d+(?:x\d+)?(?:/\d+)?|up\d+"
    r"|(?:max|avg)pool(?:\d+(?:/\d+)?)?|FC-\d+|dropout|LRN|BN|boxes)(?:\([^()]*\))?"
    r"|(?:crop|resize)\(\w+(?:, \w+)?\)|ReLU6?|SiLU|gap|soft-max|[x×]\d+)(?!\S)\s*"
)


def _if_sound(text: str) -> str | None:
    sound = re.compile(SOUND)
    at = 0
    while at < len(text):
        match = sound.match(text, at)
        if match is None:
            return None
        at = match.end()
    return text or None


def _input(text: str) -> str | None:
    options = re.fullmatch(
        r"(input\s+\d+\s*[x×]\s*\d+(?:\s+\w+)?)\s+((?:mean|std|scale)\s.*)", text, re.IGNORECASE
    )
    if options:
        return f"{options[1]}({options[2]})"
    numbers = re.findall(r"\d+", text)
    color = re.search(r"rgb|bgr|gr[ae]y", text, re.IGNORECASE)
    kind = color[0] if color else "RGB"
    if len(numbers) == 3:
        # Channels first as in PyTorch, or last as in image files.
        channels = numbers.pop(0 if numbers[0] in ("1", "3") else 2)
        if channels not in ("1", "3"):
            return None
        kind = color[0] if color else ("gray" if channels == "1" else "RGB")
    if len(numbers) > 2:
        return None
    height, width = (numbers * 2)[:2] if numbers else ("224", "224")
    return f"input {height}x{width} {kind}"


def _like_here(source: Source, text: str) -> str | None:
    """``like D``, where `D` is a net of the same file."""
    name = re.fullmatch(r"like\s*:?\s*([A-Za-z][\w.-]*)", text, re.IGNORECASE)
    if name is None or not re.search(rf"(?im)^\s*net\s+{re.escape(name[1])}\s*$", source.text):
        return None
    return f'like "{os.path.basename(source.name)}:{name[1]}"'


def _like(text: str) -> str | None:
    name = re.fullmatch(r"(like\s+\"[^\":]+)\"\s+([\w.-]+)", text, re.IGNORECASE)
    if name is not None and name[2].casefold() not in ("up", "upto", "to", "until", "through"):
        return f'{name[1]}:{name[2]}"'
    match = re.match(
        r"like\s*:?\s*[\"'“”„]?([^\"'“”„\s]+)[\"'“”„]?"
        r"(?:\s+(?:up\s*to|until|through|to|up)\s+(\S+))?",
        text,
        re.IGNORECASE,
    )
    if match is None:
        return 'like "D.vgg"'
    file = match[1] if re.search(r"[\"'“”„./]", text) else f"{match[1]}.vgg"
    return f'like "{file}"' + (f" up to {match[2]}" if match[2] else "")


def _net(text: str) -> str | None:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text[3:]).strip("-.")
    return f"net {name}" if name[:1].isalpha() else None


_UNITS = {"thousand": "K", "million": "M", "billion": "G"}


def _claim(text: str) -> str | None:
    kinds = r"weights?[\s-]*layers?|layers?|weights?|param\w*"
    match = re.fullmatch(
        rf"(?:({kinds})\s*[:=]?\s*)?(\d[\d.,'_]*)\s*([KMGB]|thousand|million|billion)?"
        rf"[\s-]*(?:({kinds}))?\.?",
        text,
        re.IGNORECASE,
    )
    if match is None:
        return None
    kind = (match[1] or match[4] or "").casefold()
    number = re.sub(r"[,'_]", "", match[2]).rstrip(".")
    unit = (match[3] or "").casefold()
    unit = _UNITS.get(unit, unit.upper())
    large = bool(unit) or len(number) > 4
    if kind.startswith("param") or kind == "weights" or (not kind and large):
        return f"{number}{unit} parameters"
    return f"{number} weight layers"


def _conv(match: re.Match[str]) -> str:
    sides = re.findall(r"\d+", match["kernel"])
    kernel = sides[0] if len(set(sides)) == 1 else "x".join(sides)
    stride = match.groupdict().get("stride")
    return f"conv{kernel}-{match['channels']}" + (f"/{stride}" if stride else "")


def _pool(match: re.Match[str]) -> str:
    kind = "maxpool" if match[1].casefold() == "max" else "avgpool"
    return f"{kind}{match[2]}" + (f"/{match[3]}" if match[3] else "")


_SIDES = r"(?P<kernel>\d+(?:\s*[x×]\s*\d+)?)"
_Form = Callable[[re.Match[str]], str]

#: Layers as people write them, and as they are written here. `re` compiles a pattern when it is
#: first searched, since most files have no mistake.
_LAYERS: tuple[tuple[str, _Form], ...] = (
    (
        r"(?<![\w.])(\d{1,9})\s*[x×*]?\s+((?:conv|FC-|maxpool|avgpool)[^\s,]*)",
        lambda m: f"{m[2]} x{m[1]}",
    ),
    (rf"\bconv\s*{_SIDES}[-\s,]+(?P<channels>\d+)(?:\s*/\s*(?P<stride>\d+))?", _conv),
    (rf"\b{_SIDES}\s*conv\w*[-\s,]+(?P<channels>\d+)", _conv),
    (r"\bconv\s+(\d+)$", lambda m: f"conv3-{m[1]}"),
    (
        r"\b(?:FC|linear|dense|fully[\s-]connected)[-\s]+(\d+)",
        lambda m: f"FC-{m[1]}",
    ),
    (
        r"\b(max|avg|average)[\s-]?pool(?:ing)?\s+(\d+)(?:\s*[x×]\s*\d+)?(?:[/,\s]+(\d+))?",
        _pool,
    ),
    (r"\bdropout\s+(0?\.\d+)", lambda m: f"dropout({m[1]})"),
    (
        r"(\S*\w),?\s+(pad|groups|dilation)\s+(\d+(?:x\d+)?)",
        lambda m: f"{m[1]}({m[2]} {m[3]})",
    ),
    (r"(\S*\w),?\s+stride\s+(\d+)", lambda m: f"{m[1]}/{m[2]}"),
    (
        r"((?:conv|FC)[^\s*]*-\d+(?:/\d+)?)\s*[*x×]?\s*(\d{1,9})(?![\w.-])",
        lambda m: f"{m[1]} x{m[2]}",
    ),
    (r"\*\s*(\d{1,9})(?![\w.-])", lambda m: f"x{m[1]}"),
    # `3×3, 64` stands in the tables of He et al.
    (rf"\b(?=\d\s*[x×]\s*\d\b){_SIDES}\s*,\s*(?P<channels>\d+)", _conv),
    (r"([^\s(]+\([^()]*)$", lambda m: f"{m[1].rstrip()})"),
)


_HEAD = re.compile(
    r"(?P<word>train|test|training|testing)(?=[\s:]|$)\s*(?P<colon>:?)\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)


def almost_a_head(text: str) -> tuple[Literal["train", "test"], Diagnostic, int, int] | None:
    """For a malformed first line of a section: its name, the mistake, and the place."""
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    kind: Literal["train", "test"] = "train" if match["word"][1] in "rR" else "test"
    if match["rest"]:
        on_its_own = match["rest"] if len(match["rest"]) <= REACH else None
        word = _WORD.match(match["rest"])
        found = word[0] if word else match["rest"][0]
        what = syntax.AfterHead(found=found, setting=on_its_own)
        start = match.start("rest")
        return kind, what, start, start + len(found)
    if match["word"].casefold() != kind:
        wrong = syntax.Unexpected(found=match["word"], suggestion=f"{kind}:")
        return kind, wrong, 0, len(match["word"])
    if not match["colon"]:
        open_ = syntax.Unexpected(found="", expected=("`:`",), suggestion=f"{kind}:")
        return kind, open_, len(text), len(text)
    return None


_BLOCK_HEAD = re.compile(
    r"block(?![^\s|(),:#\"*×\[\]+&])\s*(?P<name>[^\s|(),:=#\"*×\[\]+&]*)", re.IGNORECASE
)
_PARAMETERS = re.compile(r"([^\W\d]\w*)(?:\s*=?\s*(\d{1,9})(?!\w))?")


def almost_a_block(text: str, error: UnexpectedInput) -> tuple[str, Diagnostic, int, int] | None:
    """For a malformed first line of a block: its name, the mistake, and the place."""
    match = _BLOCK_HEAD.match(text)
    if match is None:
        return None
    at, found, accepts = _place(text, error)
    name, rest = match["name"], text[match.end() :]
    is_named = re.fullmatch(r"[A-Za-z]\w*", name) is not None
    expected = _expected_of_block(accepts) if is_named else "a name"
    suggestion = None
    if len(text) <= REACH and "`" in expected and (not found or found.isalnum() or found == ":"):
        inner, _, after = rest.partition(":")
        pairs = _PARAMETERS.findall(inner)
        written = ", ".join(one + (f" = {default}" if default else "") for one, default in pairs)
        if not after.strip():
            suggestion = f"block {name}({written}):" if written else f"block {name}:"
    after_colon = is_named and at > text.find(":") >= 0 and bool(found)
    what = syntax.MalformedBlock(
        found=found,
        expected=expected,
        suggestion=suggestion,
        is_body=after_colon,
    )
    return name if is_named else "", what, at, at + len(found)


def _expected_of_block(accepts: set[str]) -> str:
    known = {
        "PARAMETER": "a parameter",
        "DEFAULT": "a whole number",
        "COMMA": "`,` or `)`",
        "RPAR": "`,` or `)`",
        "COLON": "`:`",
    }
    return next((text for name, text in known.items() if name in accepts), "the end of the line")
