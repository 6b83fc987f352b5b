"""The page says what was counted, is sound HTML, and lets no stranger's text do anything."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.bundles import make
from tests.studies.evaluation.pictures import picture, write_pictures
from tests.studies.evaluation.test_answers import made_up
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.answers import Result, Tally, answer
from vggspec.studies.evaluation.question import Question, ask
from vggspec.studies.evaluation.report import MAX_DRAWN, WORST, SettingErrors, page

VOID = {"meta", "img", "br"}
STRANGE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Checks that what is opened is closed, and gathers tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [
            attrs for name, attrs in self.tags if name == tag and kind in (None, attrs.get("class"))
        ]


def asked(
    tmp_path: Path, folders: tuple[str, ...], number: int = 5, kind: str = "posteriors"
) -> Question:
    classes = 5
    labels = (*folders, *(f"other {i}" for i in range(classes - len(folders))))
    net = open_bundle(make(tmp_path / "net", labels=labels, kind=kind).path)
    images = open_labelled(write_pictures(tmp_path / "data", number, folders))
    return ask([net], [net.manifest.test], images, device="cpu")[0]


def paged(
    question: Question, results: list[Result], source: str = "data/val"
) -> tuple[Page, Tally]:
    tally = Tally(question)
    for result in results:
        tally.add(result)
    settings = [SettingErrors("small", "24", "dense", errors) for errors in tally.settings]
    return Page(page(question, tally, results, settings, source=source)), tally


def test_it_says_what_was_counted(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"), 10)
    results = list(answer(question, question.indices.tolist()))
    found, tally = paged(question, results)
    (errors,) = tally.settings
    assert 0 < errors.top1 < errors.images  # else little would be shown
    assert f"{100 * errors.top1_error:.2f} %" in found.text
    assert "20 images of 2 classes" in found.text
    assert len(found.all("article")) == min(WORST, errors.top1)
    assert len(found.all("rect", "wrong")) == len(tally.confusions)
    right = [one for one in tally.by_class.values() if one.top1 < one.images]
    assert len(found.all("rect", "right")) == len(right)
    for (true, said), number in tally.confusions.items():
        words = f"{question.labels[true]} taken for {question.labels[said]}: {number} of 10"
        assert words in found.text


def test_thumbnails_are_the_pictures_the_surest_mistake_first(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"), 10)
    results = list(answer(question, question.indices.tolist()))
    found, _ = paged(question, results)
    wrong = [one for one in results if one.ranks[-1] > 0]
    worst = max(wrong, key=lambda one: one.top[0][1])
    source = found.all("img")[0]["src"] or ""
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as shown, Image.open(question.images.name(worst.index)) as of:
        assert (shown.format, shown.size) == ("JPEG", of.size)
        small = (4, 4)
        expected = of.convert("RGB").resize(small).tobytes()
        assert all(
            abs(a - b) < 24 for a, b in zip(shown.resize(small).tobytes(), expected, strict=True)
        )


def test_it_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"))
    found, _ = paged(question, made_up(question, 0))
    assert {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "a"} == set()
    for _, attrs in found.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert (attrs.get("src") or "data:").startswith("data:")
        assert "href" not in attrs
    policy = next(a for a in found.all("meta") if a.get("http-equiv"))
    assert (policy["content"] or "").startswith("default-src 'none'")
    style = page(
        question,
        Tally(question),
        [],
        [SettingErrors("", "", "", Tally(question).settings[0])],
        source="",
    )
    assert "prefers-color-scheme: dark" in style
    assert not re.search(r"url\(|@import|https?://", style)


@pytest.mark.parametrize("name", ["<b>", '" onload="x', "\x1b[31m\x00", "a&amp;b"])
def test_strangers_text_stays_text(tmp_path: Path, name: str) -> None:
    folder = name.replace("/", "").replace("\x00", "") + "<img src=x>"
    question = asked(tmp_path, (folder, "cat"))
    labels = (STRANGE, *question.labels[1:])
    question = replace(question, labels=labels)
    results = made_up(question, 1)
    results[0] = Result(index=0, unread=STRANGE)
    results[1] = replace(results[1], ranks=(1,))
    # So that one image of many cannot be read.
    tally = Tally(replace(question, indices=question.indices.repeat(50)))
    for result in results:
        tally.add(result)
    settings = [SettingErrors(STRANGE, STRANGE, STRANGE, tally.settings[0])]
    text = page(question, tally, results, settings, source=STRANGE)
    parsed = Page(text)
    assert not parsed.all("script")
    assert not [a for a in parsed.all("img") if not (a["src"] or "").startswith("data:")]
    assert not any("onload" in attrs for _, attrs in parsed.tags)
    assert STRANGE in parsed.text
    assert {c for c in text if not c.isprintable()} == {"\n"}
    text.encode()


def test_file_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"))
    odd = tmp_path / "data" / "val" / "ant" / "\udcff.png"
    odd.write_bytes(picture((40, 40), 5))
    images = open_labelled(tmp_path / "data")
    question = replace(question, images=images.images, indices=question.indices)
    results = [replace(one, ranks=(1,)) for one in made_up(question, 2)]
    tally = Tally(question)
    for result in results:
        tally.add(result)
    settings = [SettingErrors("n", "24", "dense", tally.settings[0])]
    assert "\\udcff" in page(question, tally, results, settings, source="").encode().decode()


def test_of_many_classes_pairs_are_listed_and_no_picture_is_drawn(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"), 40)
    many = MAX_DRAWN + 30
    question = replace(question, labels=tuple(f"label {i}" for i in range(many)))
    found, tally = paged(question, made_up(question, 3))
    assert len({said for _, said in tally.confusions}) > MAX_DRAWN
    assert not found.all("svg")
    assert "Confusions" in found.text


def test_scores_are_not_told_in_percent(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"), 10, kind="scores")
    results = list(answer(question, question.indices.tolist()))
    found, _ = paged(question, results)
    wrong = max((one for one in results if one.ranks[-1]), key=lambda one: one.top[0][1])
    assert f"{wrong.top[0][1]:.4g}" in found.text
    assert f"{100 * wrong.top[0][1]:.2f} %" not in found.text


def test_without_a_mistake_none_is_shown(tmp_path: Path) -> None:
    question = asked(tmp_path, ("ant", "cat"))
    right = [
        Result(index=i, ranks=(0,), top=((question.truth(i), 0.9),), truth=0.9)
        for i in question.indices.tolist()
    ]
    found, _ = paged(question, right)
    assert "0.00 %" in found.text
    assert "mistakes" not in found.text
    assert not found.all("svg")
