"""The ``input`` line of a spec: size, channels, and how pixels are normalised."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vggspec.base.catalogue import layers
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.source import Span
from vggspec.base.wording import nearest
from vggspec.compiler.ir import Color, ImageInput
from vggspec.compiler.ops.syntax import MAX_SIDE, read_number
from vggspec.lang.ast import InputItem, Option

Report = Callable[[Diagnostic, Span], None]


def read_input(item: InputItem, report: Report) -> ImageInput:
    """The image that a spec's ``input`` line describes; mistakes are passed to ``report``."""
    color: Color = "RGB"
    if item.color is not None:
        colors: dict[str, Color] = {"rgb": "RGB", "bgr": "BGR", "gray": "gray", "grey": "gray"}
        found = colors.get(item.color.text.casefold())
        if found is None:
            likely = nearest(item.color.text, tuple(colors))
            size = f"{item.height.text}x{item.width.text}"
            what_color = layers.UnknownColour(
                word=item.color.text,
                suggestion=f"input {size} {colors[likely]}" if likely else None,
            )
            report(what_color, item.color.span)
        color = found or "RGB"
    image = ImageInput(
        height=_side(item.height.text, item.height.span, report),
        width=_side(item.width.text, item.width.span, report),
        color=color,
    )
    options: dict[str, Option] = {}
    for option in _split_options(item.options, ("mean", "std", "scale")):
        word = option.name.text.casefold()
        if word not in ("mean", "std", "scale"):
            known = ("mean", "std", "scale")
            what = layers.UnknownOption(
                owner="input",
                word=option.name.text,
                known=known,
                suggestion=nearest(word, known),
            )
            report(what, option.name.span)
        elif word in options:
            report(layers.OptionTwice(word=word), option.name.span)
        else:
            options[word] = option
    if "std" in options and "scale" in options:
        later = max(options["std"], options["scale"], key=lambda option: option.span)
        report(layers.ScaleAndStd(), later.span)
    if "mean" in options:
        mean = _channel_numbers(options["mean"], image.channels, -1e6, 1e6, report)
        image = replace(image, mean=mean)
    if "std" in options:
        std = _channel_numbers(options["std"], image.channels, 1e-6, 1e6, report)
        image = replace(image, std=std)
    if "scale" in options:
        scale = _channel_numbers(options["scale"], 1, 1e-9, 1e6, report)
        image = replace(image, scale=scale[0])
    return image


def _side(text: str, span: Span, report: Report) -> int:
    value = int(text) if len(text) <= 16 else 10**16
    if 1 <= value <= MAX_SIDE:
        return value
    shown = text if len(text) <= 16 else f"{text[:12]}…"
    what = layers.OutOfRange(what="an input of", value=shown, low="1", high=str(MAX_SIDE))
    report(what, span)
    return min(max(value, 1), MAX_SIDE)


def _channel_numbers(
    option: Option, channels: int, low: float, high: float, report: Report
) -> tuple[float, ...]:
    word = option.name.text.casefold()
    numbers = []
    for value in option.values:
        number = read_number(value.text)
        if number is None:
            report(layers.OptionValue(word=word, expected="a number"), value.span)
            return (1.0,) * channels
        if not low <= number <= high:
            what = layers.OutOfRange(
                what=f"`{word}`", value=value.text, low=f"{low:g}", high=f"{high:g}"
            )
            report(what, value.span)
            return (1.0,) * channels
        numbers.append(number)
    if len(numbers) == 1:
        return tuple(numbers * channels)
    if len(numbers) != channels:
        count = layers.ChannelCount(word=word, found=len(numbers), channels=channels)
        report(count, option.span)
        return (1.0,) * channels
    return tuple(numbers)


def _split_options(options: Sequence[Option], known: tuple[str, ...]) -> list[Option]:
    """Options whose comma was left out, as in ``mean 1 2 3 std 4 5 6``, as two."""
    split: list[Option] = []
    for option in options:
        start = 0
        for i, word in enumerate(option.words):
            if i > start and word.text.casefold() in known:
                split.append(_part(option, start, i))
                start = i
        split.append(_part(option, start, len(option.words)))
    return split


def _part(option: Option, start: int, end: int) -> Option:
    words = option.words[start:end]
    return Option(words, words[0].span.to(words[-1].span))
