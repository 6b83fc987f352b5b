"""Trees of class folders: nested, hidden, linked in circles, oddly named, empty, and none of it."""

import os
import unicodedata
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.harness import answer
from tests.training.folders import tiny
from vggspec.data.classed import open_classed
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.data.read import ENDINGS
from vggspec.training.dataset import DataSet, open_data

NETWORK = tiny().network
CLASSES = (
    "ant", "bee", "cow", "Ant", "bee ", "caf\u00e9", "cafe\u0301", "好", "__MACOSX", ".git",
    "train", "a\nb", "\x1b[31m", os.fsdecode(b"\xff"), "ca\u0442", "-o", "`x`", "%s",
    "lost+found", "x.jpg",
)  # fmt: skip
FILES = (
    "0.png", "1.JPG", "2.jpeg", "README.txt", "Thumbs.db", "._0.png", ".DS_Store", "3.heic", "png",
    "x.tar", "0.png.part", "0.cls", os.fsdecode(b"\xfe.png"), "a\tb.gif", "\u202e.png", ".png",
)  # fmt: skip


def one(random: Random, folder: Path) -> str:
    """A tree to all that list class folders; what they list is what ``os.walk`` finds."""
    root = folder / "data"
    for split in ("train", "val"):
        _fill(random, root / split)
    found: dict[str, DataSet | Labelled] = {}
    answers = [
        answer(lambda: found.update(train=open_data(root, NETWORK))),
        answer(lambda: found.update(val=open_labelled(root, "val"))),
        answer(lambda: found.update(all=open_labelled(root, random.choice(("all", "train"))))),
        answer(lambda: open_classed(root)),
    ]
    train, val = found.get("train"), found.get("val")
    if isinstance(train, DataSet):
        assert not isinstance(train.classes, str)
        for name, split in (("train", train.train), ("val", train.val)):
            listed = [(split.labels[i], split.name(i)) for i in range(len(split))]
            _compare(root / name, train.classes, listed)
    if isinstance(val, Labelled) and not any((root / "val").glob("*.tar")):
        images = val.images
        listed = [(images.labels[i], images.name(i)) for i in range(len(images))]
        _compare(val.folder, val.classes or (), listed)
    for each in found.values():
        assert all(note.isprintable() and len(note) < 4000 for note in each.notes), each.notes
    return answers[random.randrange(len(answers))]


def _fill(random: Random, split: Path) -> None:
    split.mkdir(parents=True)
    three = ("ant", "bee", "cow")
    for name in three if random.randrange(3) else random.sample(CLASSES, random.randrange(6)):
        (split / name).mkdir()
        if random.randrange(8):
            (split / name / "a.png").touch()
    if not random.randrange(3):
        (split / random.choice(CLASSES)).mkdir(exist_ok=True)
    folders = [each for each in split.iterdir() if each.is_dir()] or [split]
    for _ in range(random.choice((0, 1, 3, 12))):
        at = random.choice([*folders, split]) if not random.randrange(6) else random.choice(folders)
        kind = random.randrange(8)
        path = at / random.choice(FILES if kind < 5 else CLASSES)
        if os.path.lexists(path):
            continue
        if kind < 5:
            path.touch()
        elif kind == 5:
            path.mkdir()
            folders.append(path)
        else:
            to = random.choice(("..", ".", "nowhere", path.name, *map(str, folders)))
            path.symlink_to(to if kind == 6 else f"{to}/a.png")
    if not random.randrange(10):
        os.mkfifo(split / "pipe.png")


def _compare(folder: Path, classes: tuple[str, ...], listed: list[tuple[int, str]]) -> None:
    """Each image that ``os.walk`` finds is listed once, under the class of its folder."""
    number_of = {unicodedata.normalize("NFC", name): i for i, name in enumerate(classes)}

    def number(name: str) -> int:
        return number_of[unicodedata.normalize("NFC", name)]

    visible = [name for name in os.listdir(folder) if not _is_hidden(name)]
    visible = [name for name in visible if (folder / name).is_dir()]
    tops = {_place(folder / name) for name in visible}
    taken = {_place(each) for each in (folder, *folder.resolve().parents)}
    expected: Counter[tuple[int, tuple[int, int], str]] = Counter()
    for top in sorted(visible, key=lambda name: ((folder / name).is_symlink(), number(name))):
        place = _place(folder / top)
        if place in taken:
            continue
        seen = (taken | tops) - {place}
        taken.add(place)
        for at, below, files in os.walk(folder / top, followlinks=True):
            if _place(Path(at)) in seen:
                below.clear()
                continue
            seen.add(_place(Path(at)))
            below[:] = sorted(name for name in below if not _is_hidden(name))
            for name in files:
                path = Path(at, name)
                if path.is_file() and not _is_hidden(name) and path.suffix.lower() in ENDINGS:
                    expected[number(top), _place(Path(at)), name] += 1
    found = Counter(
        (int(label), _place(Path(name).parent), os.path.basename(name)) for label, name in listed
    )
    assert found == expected, (found - expected, expected - found)


def _place(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    return name[0] == "." or name in ("__MACOSX", "@eaDir", "lost+found")
