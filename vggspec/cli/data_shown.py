"""A report on a data set, as ``vggspec data`` and ``vggspec train --dry-run`` print it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from vggspec.base.render import as_text, shown
from vggspec.base.wording import count
from vggspec.cli.table import print_table, print_text
from vggspec.cli.terminal import is_verbose, table_width

if TYPE_CHECKING:
    from vggspec.data.data_report import Copies, DataReport, Place, Size, SplitReport

FIRST = 5  # files that are named, of many
MOST_CLASSES = 30  # that are listed; of more, the largest and the smallest
ENDS = 8

#: A class with fewer images than that part of the largest one's deserves a word.
IMBALANCE = 10.0


def print_report(found: "DataReport") -> None:
    """Print the figures, then what is wrong."""
    _print_splits(found)
    click.echo()
    _print_classes(found)
    problems = _problems(found)
    for title, lines in problems:
        click.echo()
        print_text(title, bold=True)
        _print_first(lines)
    if found.refused:
        click.echo()
        print_text("training would refuse these data:", bold=True)
        click.echo(as_text(found.refused, width=table_width() or 1000))
    elif not problems:
        click.echo()
        click.echo("nothing suspicious was found")


def _print_splits(found: "DataReport") -> None:
    rows: list[tuple[str, ...]] = [
        ("split", "images", "broken", "copies", "smallest", "median", "largest")
    ]
    rows += [
        (
            shown(split.name),
            str(split.images),
            str(len(split.broken)),
            str(found.duplicates[split.name]),
            *(_pixels(size) for size in (split.smallest, split.median, split.largest)),
        )
        for split in found.splits
    ]
    print_table(rows, right=(1, 2, 3))
    for split in found.splits:
        formats = ", ".join(f"{number} {shown(form)}" for form, number in split.formats.items())
        turned = f"; {split.turned} turned by EXIF" if split.turned else ""
        print_text(f"formats of {shown(split.name)}: {formats or 'none'}{turned}")


def _print_classes(found: "DataReport") -> None:
    names = list(found.classes)
    by_number = sorted(names, key=lambda name: -found.splits[0].classes[name])
    is_short = len(names) > MOST_CLASSES and table_width() is not None
    listed = [*by_number[:ENDS], *by_number[-ENDS:]] if is_short else names
    rows = [("class", *(shown(split.name) for split in found.splits))]
    rows += [
        (shown(name), *(str(split.classes[name]) for split in found.splits)) for name in listed
    ]
    masked = [split for split in found.splits if split.pixels is not None]
    if masked:  # the images of a class are those that show it
        rows[0] = (*rows[0], *(f"pixels of {shown(split.name)}" for split in masked))
        rows[1:] = [
            (*row, *(_share(split, name) for split in masked))
            for row, name in zip(rows[1:], listed, strict=True)
        ]
    if is_short:
        rows.insert(1 + ENDS, ("…", *("" for _ in rows[0][1:])))
    print_table(rows, right=range(1, len(rows[0])))
    if is_short:
        click.echo(f"the largest and the smallest of {len(names)} classes; --wide lists all")
    for split in masked:
        if split.ignored and split.pixels is not None:
            share = split.ignored / (split.ignored + sum(split.pixels.values()))
            print_text(f"{share:.2%} of the pixels of {shown(split.name)} are to be ignored")


def _share(split: "SplitReport", name: str) -> str:
    """A class's share of the labelled pixels."""
    pixels = split.pixels or {}
    return f"{pixels.get(name, 0) / max(1, sum(pixels.values())):.2%}"


def _problems(found: "DataReport") -> list[tuple[str, list[str]]]:
    """What deserves attention, each with the files concerned."""
    problems: list[tuple[str, list[str]]] = []
    first = found.splits[0]
    ratio = found.imbalance
    if ratio is not None and ratio >= IMBALANCE:
        of = {number: name for name, number in first.classes.items() if number}
        most, least = shown(of[max(of)]), shown(of[min(of)])
        title = f"classes are unequal: `{most}` has {ratio:.0f} times the images of `{least}`"
        problems.append((title, []))
    for split in found.splits:
        if split.broken:
            title = f"{count(len(split.broken), 'image')} of {shown(split.name)} cannot be read"
            lines = [f"{_seen_from(found, f)}: {shown(why)}" for f, why in split.broken.items()]
            problems.append((title, lines))
    problems += _copies(found)
    for split in found.splits:
        if split.enlarged and found.input is not None:
            least_px = _pixels(found.input)
            title = f"{count(len(split.enlarged), 'image')} of {shown(split.name)}, smaller than"
            title += f" the net's input of {least_px}, will be enlarged"
            problems.append((title, _with_sizes(found, split.enlarged)))
        if split.odd:
            title = f"{count(len(split.odd), 'image')} of {shown(split.name)}, more than three"
            title += " times as long as wide, will be seen in small part"
            problems.append((title, _with_sizes(found, split.odd)))
    notes = [shown(note) for split in found.splits for note in split.notes]
    if notes:
        problems.append(("not used", notes))
    return problems


def _copies(found: "DataReport") -> list[tuple[str, list[str]]]:
    """Copies in more than one split, in more than one class, and the others."""
    leaked, contradictory = found.leaked, found.contradictions
    others = [one for one in found.copies if one not in leaked and one not in contradictory]
    problems = []
    for title, copies in (
        ("in more than one split, so that a net is tested on what it was trained on", leaked),
        ("in more than one class", contradictory),
        ("more than once", others),
    ):
        if copies:
            of_pixels = sum(one.same == "pixels" for one in copies)
            how = f" ({of_pixels} by pixels, in different files)" if of_pixels else ""
            head = f"{count(len(copies), 'image')} {'is' if len(copies) == 1 else 'are'} there"
            problems.append((f"{head} {title}{how}", [_in_words(found, one) for one in copies]))
    return problems


def _in_words(found: "DataReport", one: "Copies") -> str:
    def place(at: "Place") -> str:
        return _seen_from(found, at.file)

    more = f" and {len(one.places) - FIRST} more" if len(one.places) > FIRST else ""
    return f"{' = '.join(map(place, one.places[:FIRST]))}{more}"


def _with_sizes(found: "DataReport", files: Mapping[str, "Size"]) -> list[str]:
    return [f"{_seen_from(found, name)}: {_pixels(size)}" for name, size in files.items()]


def _seen_from(found: "DataReport", file: str) -> str:
    """The path of a file seen from the data's folder."""
    return shown(file.removeprefix(f"{found.folder}{os.sep}"))


def _print_first(lines: Sequence[str]) -> None:
    listed: Iterable[str] = lines if is_verbose() else lines[:FIRST]
    for line in listed:
        print_text(f"  {line}")
    if len(lines) > FIRST and not is_verbose():
        print_text(f"  and {len(lines) - FIRST} more; -v lists all, and --json")


def _pixels(size: "Size | None") -> str:
    """Columns and rows, as programs that show images write them."""
    return "-" if size is None else f"{size[1]} × {size[0]}"
