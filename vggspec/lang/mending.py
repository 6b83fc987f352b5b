"""Settings as people write them, and as they are written here.

Each function takes the text that stands after a setting's word and gives the whole setting that
was probably meant, or None where nobody can tell. It is only ever a suggestion.
"""

import re
from collections.abc import Callable

Mend = Callable[[str], str | None]

_NUMBER = r"(\d+(?:[.,]\d+)?(?:e[+-]?\d+)?|\.\d+)"
_YES = ("on", "yes", "true", "1", "random", "0.5", "horizontal", "")
_NO = ("off", "no", "false", "0", "none", "never")
_COUNTS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}


def nothing(_: str) -> str | None:
    """No guess."""
    return None


def number(key: str) -> Mend:
    """``= 0.9``, ``0,9``, ``50%``, ``off``."""

    def mend(rest: str) -> str | None:
        if rest.casefold() in _NO:
            return None if key == "rate" else f"{key} 0"
        match = re.fullmatch(rf"[=:]?\s*{_NUMBER}\s*(%?)", rest, re.IGNORECASE)
        if match is None:
            return None
        text = match[1].replace(",", ".")
        return f"{key} {float(text) / 100:g}" if match[2] else f"{key} {text}"

    return mend


def whole(key: str) -> Mend:
    """``= 256``, ``1,024``, ``224x224``, ``256 images``."""

    def mend(rest: str) -> str | None:
        number = r"[=:]?\s*(\d{1,3}(?:,\d{3})+|\d+)(?:\s*[x×]\s*(\d+))?\s*[a-z]*"
        match = re.fullmatch(number, rest, re.IGNORECASE)
        if match is None or match[2] not in (None, match[1]):
            return None
        return f"{key} {match[1].replace(',', '')}"

    return mend


def on_off(key: str) -> Mend:
    """``yes``, ``= false``."""

    def mend(rest: str) -> str | None:
        word = rest.strip("=: ").casefold()
        if word in _YES:
            return key
        return f"{key} off" if word in _NO else None

    return mend


def a_range(rest: str) -> str | None:
    """``256-512``, ``[256, 512]``, ``256 to 512``."""
    numbers = sorted(map(int, re.findall(r"\d{1,5}", rest)))
    if len(numbers) not in (1, 2) or re.search(r"\d\.\d", rest) or numbers[-1] > 1 << 16:
        return None
    return f"scale {'..'.join(map(str, numbers))}" if numbers[0] else None


def a_list(rest: str) -> str | None:
    """``256 384 512``, ``[256, 384]``; of a range its ends and its middle, as in section 4.2."""
    numbers = list(map(int, re.findall(r"\d{1,5}", rest)))
    if not numbers or not min(numbers) or len(numbers) > 8 or re.search(r"\d\.\d", rest):
        return None
    if len(numbers) == 2 and re.search(r"\.\.|…|-|–|\bto\b", rest):
        numbers.insert(1, sum(numbers) // 2)
    return f"scale {', '.join(map(str, numbers))}"


def decay(rest: str) -> str | None:
    """``by 10 3 times``, ``0.1 on plateau``."""
    if re.search(r"\b(every|each|at|after|steps?)\b", rest, re.IGNORECASE):
        return None
    found = re.search(_NUMBER, rest)
    if found is None or not float(found[1].replace(",", ".")):
        return None
    value = float(found[1].replace(",", "."))
    times = re.search(r"(\d+|one|two|three|four|five|six)(?:\s*times?)?$", rest[found.end() :])
    how_often = f", {_COUNTS.get(times[1], times[1])} times" if times else ""
    return f"decay {value if value >= 1 else 1 / value:g} on plateau{how_often}"


def divisor(rest: str) -> str | None:
    """``0.1``, a factor, as the divisor that it is."""
    found = re.match(_NUMBER, rest)
    if found is None or not 0 < float(found[1].replace(",", ".")) < 1:
        return None
    return f"decay {1 / float(found[1].replace(',', '.')):g}{rest[found.end() :]}"


def stop(rest: str) -> str | None:
    """``370K``, ``at 74 epochs``, ``after 370,000 iterations``."""
    found = re.search(
        r"(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)\s?([km]?)\b\s*([a-z]*)", rest, re.IGNORECASE
    )
    if found is None:
        return None
    count, unit = found[1].replace(",", ""), found[2].upper()
    is_epochs = found[3][:1].casefold() == "e" or (
        not found[3] and not unit and float(count) <= 1000
    )
    return f"stop after {count}{unit} {'epochs' if is_epochs else 'iterations'}"


def start(rest: str) -> str | None:
    """``xavier``, ``kaiming``, ``gaussian``, ``from A.vgg first 4 convs``."""
    text = rest.casefold()
    if text.startswith("from"):
        path = re.search(r"[^\s\"'“”:]+\.vgg(?::[^\s\"'“”:,]+)?", rest)
        if path is None:
            return 'start from "A.vgg": first 4 conv, last 3 FC'
        parts = []
        for which, kind in (("first", "conv"), ("last", "FC")):
            found = re.search(rf"(?:{which}\s+)?(\w+)\s+{kind}", rest[path.end() :], re.IGNORECASE)
            how_many = _COUNTS.get(found[1].casefold(), found[1]) if found else ""
            if how_many.isdecimal():
                parts.append(f"{which} {how_many} {kind}")
        return f'start from "{path[0]}"' + (f": {', '.join(parts)}" if parts else "")
    for word, kind in (("glorot", "glorot"), ("xavier", "glorot"), ("kaiming", "he"), ("he", "he")):
        if text.startswith(word):
            return f"start {kind}"
    if re.match(r"normal|gaussian|random", text):
        found = re.search(_NUMBER, text)
        is_usable = found is not None and float(found[1].replace(",", ".")) > 0
        return f"start normal {found[1]}" if found and is_usable else "start normal 0.1"
    return None


def data(rest: str) -> str | None:
    """A folder without quotation marks."""
    folder = rest.strip("\"'“” =:")
    return f'data "{folder}"' if folder else None


def grid(rest: str) -> str | None:
    """``5``, and the paper's ``50`` crops, which are 5 by 5 and their mirror images."""
    numbers = re.findall(r"\d{1,4}", rest)
    if not numbers or not int(numbers[0]):
        return None
    side = 5 if numbers[0] in ("25", "50", "150") else int(numbers[0])
    return f"crops {side}x{side}" if side <= 64 else None


def average(rest: str) -> str | None:
    """``score``, ``softmax``, ``after soft-max``."""
    text = rest.casefold()
    if re.search(r"post|prob|after|soft", text):
        return "average posteriors"
    return "average scores" if re.search(r"score|logit|before|map", text) else None


def resize(rest: str) -> str | None:
    """``like torchvision``, ``pytorch``."""
    return "resize torchvision" if "torch" in rest.casefold() else None


#: What other tools call the settings, by section.
ALIASES: dict[str, dict[str, str]] = {
    "train": {
        "lr": "rate",
        "learning-rate": "rate",
        "learning_rate": "rate",
        "learningrate": "rate",
        "base_lr": "rate",
        "initial-rate": "rate",
        "bs": "batch",
        "batch-size": "batch",
        "batch_size": "batch",
        "batchsize": "batch",
        "minibatch": "batch",
        "mini-batch": "batch",
        "epoch": "stop",
        "epochs": "stop",
        "num-epochs": "stop",
        "max-epochs": "stop",
        "iteration": "stop",
        "iterations": "stop",
        "iters": "stop",
        "steps": "stop",
        "max-iter": "stop",
        "max_iter": "stop",
        "stop-after": "stop",
        "wd": "weight-decay",
        "l2": "weight-decay",
        "weight_decay": "weight-decay",
        "weightdecay": "weight-decay",
        "gamma": "decay",
        "lr-decay": "decay",
        "rate-decay": "decay",
        "resize": "scale",
        "size": "scale",
        "scales": "scale",
        "jitter": "scale",
        "s": "scale",
        "colour-jitter": "colour-shift",
        "colour_shift": "colour-shift",
        "colourshift": "colour-shift",
        "lighting": "colour-shift",
        "pca": "colour-shift",
        "init": "start",
        "initialisation": "start",
        "initialization": "start",
        "initialise": "start",
        "initialize": "start",
        "mirror": "flip",
        "hflip": "flip",
        "horizontal-flip": "flip",
        "flips": "flip",
        "folder": "data",
        "images": "data",
    },
    "test": {
        "q": "scale",
        "size": "scale",
        "crop": "crops",
        "multi-crop": "crops",
        "multicrop": "crops",
        "grid": "crops",
        "mirror": "flip",
        "hflip": "flip",
        "flips": "flip",
    },
}

#: A unit that the other tool's word holds.
UNITS = {
    "epoch": "epochs",
    "epochs": "epochs",
    "num-epochs": "epochs",
    "max-epochs": "epochs",
    "iteration": "iterations",
    "iterations": "iterations",
    "iters": "iterations",
    "steps": "iterations",
    "max-iter": "iterations",
    "max_iter": "iterations",
}

_SGD = "leave it out: training is SGD with momentum, as in section 3.1 of the paper"

#: Words that need no setting of their own, and why.
NEEDLESS = {
    "optimizer": _SGD,
    "optimiser": _SGD,
    "sgd": _SGD,
    "adam": _SGD,
    "nesterov": _SGD,
    "seed": "leave it out, and run `vggspec train SPEC --seed 1`",
    "loss": "leave it out: the loss follows from the end of the net, `soft-max` or `boxes`",
    "clip": "leave it out: gradients are not clipped",
    "clip-norm": "leave it out: gradients are not clipped",
    "gradient-clip": "leave it out: gradients are not clipped",
    "grad-clip": "leave it out: gradients are not clipped",
    "warmup": "leave it out: the rate begins at its largest",
    "patience": "write it in the decay, as in `decay 10 on plateau of 5 epochs, 3 times`",
    "plateau": "write it in the decay, as in `decay 10 on plateau of 5 epochs, 3 times`",
}
