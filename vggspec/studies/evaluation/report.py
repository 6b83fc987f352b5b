"""An evaluation as one HTML page: errors, classes, confusions, and the worst mistakes.

The page is a single file without scripts that contains its pictures and opens from disk. Names of
classes and files are untrusted text: they are escaped, and the page's policy lets nothing run or
reach the network.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.data.decode import BadImageError, decode
from vggspec.data.split import Split
from vggspec.studies.evaluation.answers import Errors, Result, Tally, kind_of
from vggspec.studies.evaluation.calibration import Calibration
from vggspec.studies.evaluation.class_scores import class_scores, macro
from vggspec.studies.evaluation.percents import percent, spread
from vggspec.studies.evaluation.question import Question

WORST = 24  # mistakes that are shown
THUMBNAIL_PX = 176  # the longest side
JPEG_QUALITY = 82
PAIRS = 20  # most confused pairs of classes
MAX_DRAWN = 48  # classes; a picture of more would be unreadable
PICTURE_PX = 620
CELL_PX = (10, 34)  # the smallest and the largest
LABEL_PX = 8.6  # a wide letter at the largest size
LEAST_SHADE = 0.25  # so that one image in a thousand is visible


@dataclass(frozen=True, slots=True)
class SettingErrors:
    """A setting in words with its errors."""

    nets: str
    scales: str
    ways: str
    errors: Errors


def page(
    question: Question,
    tally: Tally,
    results: Sequence[Result],
    settings: Sequence[SettingErrors],
    *,
    source: str,
    calibration: Calibration | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """The page; ``source`` is the folder of the images, the last of ``settings`` the main one.

    ``pictures`` are the PNGs ``confusions.png`` and ``calibration.png``, where they can be drawn.
    """
    drawn = pictures or {}
    main = settings[-1]
    title = f"{main.nets} on {source}"
    sections = [
        _head(main, tally, title, calibration),
        _settings(settings, question.top) if len(settings) > 1 else "",
        _confusions(question, tally, drawn.get("confusions.png")),
        _classes(question, tally),
        _calibration(calibration, drawn.get("calibration.png")),
        _mistakes(question, results, source),
        _left_out(tally),
    ]
    body = "\n".join(section for section in sections if section)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _head(main: SettingErrors, tally: Tally, title: str, calibration: Calibration | None) -> str:
    errors = main.errors
    classes = count(len(tally.by_class), "class")
    facts = f"{count(tally.images, 'image')} of {classes}"
    if tally.left_out:
        facts += f", {len(tally.left_out)} left out"
    figures = [("top-1 error", errors.top1_error), (_top(tally.question), errors.top5_error)]
    named = [(f"{name}, {spread(value, errors.images)}", value) for name, value in figures]
    named.append(("mean F1 of the classes", macro(class_scores(tally)).f1))
    if calibration is not None:
        named.append(("calibration error", calibration.error))
    shown_figures = "\n".join(
        f'<div class="figure"><strong>{percent(value)}</strong><span>{name}</span></div>'
        for name, value in named
    )
    return f"""<header>
<h1>{_text(title)}</h1>
<p>Q {_text(main.scales)}, {_text(main.ways)}; {facts}.</p>
<div class="figures">
{shown_figures}
</div>
</header>"""


def _settings(settings: Sequence[SettingErrors], top: int) -> str:
    most = max(each.errors.top1_error for each in settings)
    rows = "\n".join(
        f"<tr><th scope=row>{_text(each.nets)}</th><td>{_text(each.scales)}</td>"
        f"<td>{_text(each.ways)}</td>{_bar(each.errors.top1_error, most)}"
        f"<td class=n>{percent(each.errors.top5_error)}</td></tr>"
        for each in settings
    )
    return f"""<section>
<h2>Settings</h2>
<div class="wide"><table>
<thead><tr><th>net</th><th>Q</th><th>evaluation</th><th>top-1 error</th>
<th class=n>top-{top} error</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
</section>"""


def _classes(question: Question, tally: Tally) -> str:
    def key(item: tuple[int, Errors]) -> tuple[float, str]:
        return -item[1].top1_error, question.labels[item[0]]

    listed = sorted(tally.by_class.items(), key=key)
    most = max((errors.top1_error for errors in tally.by_class.values()), default=0)
    scores = {one.index: one for one in class_scores(tally)}
    taken_for: dict[int, tuple[int, int]] = {}
    for (true, said), number in sorted(tally.confusions.items()):
        if number > taken_for.get(true, (0, 0))[1]:
            taken_for[true] = said, number
    rows = []
    for i, errors in listed:
        most_often = ""
        if i in taken_for:
            other, number = taken_for[i]
            most_often = f"{_text(question.labels[other])} <small>{number}×</small>"
        rows.append(
            f"<tr><th scope=row>{_text(question.labels[i])}</th><td class=n>{errors.images}</td>"
            f"{_bar(errors.top1_error, most)}<td class=n>{percent(errors.top5_error)}</td>"
            f"<td class=n>{percent(scores[i].precision)}</td><td class=n>{percent(scores[i].f1)}"
            f"</td><td>{most_often}</td></tr>"
        )
    lines = "\n".join(rows)
    return f"""<section>
<h2>Classes, the hardest first</h2>
<div class="wide tall"><table>
<thead><tr><th>class</th><th class=n>images</th><th>top-1 error</th>
<th class=n>{_top(question)}</th><th class=n>precision</th><th class=n>F1</th>
<th>most often taken for</th></tr></thead>
<tbody>
{lines}
</tbody>
</table></div>
</section>"""


def _calibration(found: Calibration | None, drawn: bytes | None) -> str:
    if found is None or drawn is None:
        return ""
    return f"""<section>
<h2>Calibration</h2>
<p>How often the net is right, by the posterior of the class that it names.</p>
{_embedded(drawn, "A reliability diagram.")}
</section>"""


def _embedded(png: bytes, words: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{data}"></figure>'


def _confusions(question: Question, tally: Tally, png: bytes | None) -> str:
    if not tally.confusions:
        return ""
    pairs = sorted(tally.confusions.items(), key=lambda item: (-item[1], item[0]))[:PAIRS]
    rows = "\n".join(
        f"<tr><td class=n>{number}</td><td>{_text(question.labels[true])}</td>"
        f"<td>{_text(question.labels[said])}</td></tr>"
        for (true, said), number in pairs
    )
    drawn = sorted({*tally.by_class, *(said for _, said in tally.confusions)})
    is_readable = len(drawn) <= MAX_DRAWN
    picture = _picture(question, tally, drawn) if is_readable else ""
    overview = "" if is_readable or png is None else _embedded(png, "The confusion matrix.")
    return f"""<section>
<h2>Confusions</h2>
{overview}
<div class="sides">
{picture}
<div class="wide"><table>
<thead><tr><th class=n>images</th><th>of class</th><th>taken for</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
</div>
</section>"""


def _picture(question: Question, tally: Tally, drawn: Sequence[int]) -> str:
    """A row for each true class, a column for each predicted one."""
    labels = [shown(question.labels[i]) for i in drawn]
    margin = round(LABEL_PX * min(24, max(map(len, labels)))) + 10
    cell = max(CELL_PX[0], min(CELL_PX[1], PICTURE_PX // len(drawn)))
    side = margin + cell * len(drawn)
    font = min(13, cell - 1)
    parts = []
    for place, label in enumerate(labels):
        at = margin + cell * (place + 0.5)
        name = escape(label if len(label) <= 24 else f"{label[:23]}…")
        row = f'x="{margin - 6}" y="{at:g}" text-anchor="end" dominant-baseline="central"'
        turn = f'transform="translate({at:g} {margin - 6}) rotate(-90)" dominant-baseline="central"'
        parts += [f"<text {row}>{name}</text>", f"<text {turn}>{name}</text>"]
    for row_place, true in enumerate(drawn):
        errors = tally.by_class.get(true, Errors())
        for place, said in enumerate(drawn):
            is_right = true == said
            right = errors.images - errors.top1
            number = right if is_right else tally.confusions.get((true, said), 0)
            if not number:
                continue
            shade = LEAST_SHADE + (1 - LEAST_SHADE) * number / errors.images
            words = f"{labels[row_place]} taken for {labels[place]}: {number} of {errors.images}"
            corner = f'x="{margin + cell * place}" y="{margin + cell * row_place}"'
            parts.append(
                f'<rect {corner} width="{cell - 1}" height="{cell - 1}" rx="2"'
                f' class="{"right" if is_right else "wrong"}" fill-opacity="{shade:.3f}">'
                f"<title>{escape(words)}</title></rect>"
            )
    inner = "\n".join(parts)
    words = "A row for each true class, a column for each predicted one."
    return f"""<figure>
<svg viewBox="0 0 {side} {side}" width="{side}" height="{side}" font-size="{font}" role="img"
 aria-label="{words}">
{inner}
</svg>
<figcaption>{words}</figcaption>
</figure>"""


def _mistakes(question: Question, results: Sequence[Result], source: str) -> str:
    wrong = [one for one in results if one.unread is None and one.ranks[-1] > 0]
    if not wrong:
        return ""
    worst = sorted(wrong, key=lambda one: (-one.top[0][1], one.index))[:WORST]
    is_posterior = kind_of(question) == "posteriors"

    def value(number: float) -> str:
        return percent(number) if is_posterior else f"{number:.4g}"

    cards = []
    for one in worst:
        name = question.images.name(one.index).removeprefix(f"{source}/")
        said, how_sure = one.top[0]
        truth = question.labels[question.truth(one.index)]
        cards.append(
            f'<article>{_thumbnail(question.images, one.index)}<p class="wrong">'
            f"<span>{_text(question.labels[said])}</span> <b>{value(how_sure)}</b></p>"
            f'<p class="right"><span>{_text(truth)}</span> <b>{value(one.truth)}</b></p>'
            f"<p><small>{_text(name)}</small></p></article>"
        )
    inner = "\n".join(cards)
    return f"""<section>
<h2>The worst mistakes</h2>
<p>The mistakes with the highest confidence: first the predicted class, then the true one.</p>
<div class="cards">
{inner}
</div>
</section>"""


def _thumbnail(images: Split, index: int) -> str:
    """The image, small, embedded in the page."""
    try:
        pixels = decode(images.read(index), "RGB", THUMBNAIL_PX)
    except BadImageError:  # it was readable before
        return ""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<div class="frame"><img alt="" width="{image.width}" height="{image.height}"'
        f' src="data:image/jpeg;base64,{data}"></div>'
    )


def _left_out(tally: Tally) -> str:
    if not tally.left_out:
        return ""
    rows = "\n".join(f"<li>{_text(name)}</li>" for name in tally.left_out_names())
    return f"<section>\n<h2>Left out</h2>\n<ul>\n{rows}\n</ul>\n</section>"


def _bar(share: float, most: float) -> str:
    width = 100 * share / most if most else 0
    return f'<td class=bar><span style="width:{width:.1f}%"></span><em>{percent(share)}</em></td>'


def _top(question: Question) -> str:
    return f"top-{question.top} error"


def _text(text: str) -> str:
    return escape(shown(text))


STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1c1d1f; --soft: #696e75;
  --line: #e3e4e2; --card: #ffffff; --right: #2a6f97; --wrong: #c8553d; --bar: #f0cfc6; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e8e8e6; --soft: #9aa0a8;
  --line: #2c3036; --card: #1d2024; --right: #6fb3d9; --wrong: #ec8468; --bar: #5b3229; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 48px 0 12px; }
p, figcaption { color: var(--soft); margin: 0; }
section > p { margin-bottom: 16px; }
.figures { display: flex; gap: 48px; margin-top: 24px; flex-wrap: wrap; }
.figure strong { display: block; font-size: 44px; line-height: 1.1; font-weight: 600;
  letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.figure span, small { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
.tall { max-height: 640px; overflow-y: auto; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 20px 6px 0; border-bottom: 1px solid var(--line);
  font-weight: 400; vertical-align: middle; }
thead th { color: var(--soft); font-size: 13px; position: sticky; top: 0;
  background: var(--paper); }
.n { text-align: right; white-space: nowrap; }
.bar { position: relative; min-width: 190px; }
.bar span { position: absolute; left: 0; top: 5px; bottom: 5px; background: var(--bar);
  border-radius: 3px; max-width: calc(100% - 20px); }
.bar em { position: relative; font-style: normal; padding-left: 8px; }
.sides { display: flex; gap: 40px; flex-wrap: wrap; align-items: flex-start; }
.sides .wide { flex: 1 1 320px; }
figure { margin: 0; max-width: 100%; }
figcaption { font-size: 13px; margin-top: 8px; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--soft); }
rect.right { fill: var(--right); }
rect.wrong { fill: var(--wrong); }
.cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px; min-width: 0; overflow-wrap: anywhere; }
.frame { height: 176px; display: flex; align-items: center; justify-content: center;
  margin-bottom: 10px; }
img { border-radius: 4px; max-width: 100%; height: auto; }
article p.right { color: var(--right); }
article p.wrong { color: var(--wrong); }
article p.right, article p.wrong { display: flex; justify-content: space-between; gap: 8px; }
article b { font-weight: 500; font-variant-numeric: tabular-nums; white-space: nowrap; }
"""
