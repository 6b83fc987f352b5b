"""Output of a build on the terminal: the cost of its profiles, and TensorRT's messages."""

from typing import TYPE_CHECKING

import click

from vggspec.base.watcher import Progress, Watcher
from vggspec.cli.terminal import complain, is_quiet, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vggspec.compiler.bundling.engine import ProfileCost
    from vggspec.compiler.bundling.staging import PlacedWeights

#: Weights files up to this size are copied without a word.
SMALL_BYTES = 16 << 20

SEVERITIES = ("internal error", "error", "warning", "info", "verbose")

#: The least important severity that is shown: without ``-v``, with it, and with ``-vv``.
SHOWN_UP_TO = (1, 3, 4)


class WithLog(Watcher):
    """A watcher that prints TensorRT's messages too, as many as were asked for."""

    def __init__(self, inner: Watcher, verbose: int) -> None:
        self._inner = inner
        self._verbose = verbose

    def progress(self, now: Progress) -> None:
        """Pass it on."""
        self._inner.progress(now)

    def note(self, text: str) -> None:
        """Pass it on."""
        self._inner.note(text)

    def log(self, severity: int, text: str) -> None:
        """Print the message on standard error."""
        if severity > SHOWN_UP_TO[min(self._verbose, 2)]:
            return
        if severity <= 1 and self._verbose == 0:
            return  # errors are raised, and reported once
        complain(text, f"TensorRT {SEVERITIES[min(severity, 4)]}")


def tell_weights(placed: "Sequence[PlacedWeights]", *, is_link: bool) -> None:
    """Print how weights came into a bundle and what it cost; ``is_link`` is what was asked for."""
    from vggspec.base.quantities import memory

    size = sum(each.bytes for each in placed)
    ways = {each.by for each in placed}
    if "copy" in ways and is_link:
        say("", f"weights: {memory(size)} copied: they cannot be linked from there")
    elif "copy" in ways and size > SMALL_BYTES:
        seconds = sum(each.seconds for each in placed)
        say("", f"weights: {memory(size)} copied in {seconds:.1f} s; --link-weights takes no space")
    elif "link" in ways:
        say("", "weights: linked, which onnx refuses to load; ONNX Runtime and vggspec load them")
    elif "clone" in ways and size > SMALL_BYTES:
        say("", f"weights: {memory(size)} cloned, which takes no space")


def show_cost(costs: "Sequence[ProfileCost]") -> None:
    """Print on standard error what each profile costs, unless the command is quiet."""
    if is_quiet():
        return
    from vggspec.cli.table import aligned, memory, scaled

    rows: list[tuple[str, ...]] = [
        ("profile", "min", "opt", "max", "MACs at opt", "activations at max")
    ]
    for index, each in enumerate(costs):
        profile = each.profile
        shapes = ("x".join(map(str, shape)) for shape in (profile.min, profile.opt, profile.max))
        rows.append((str(index), *shapes, scaled(each.macs), memory(each.activation_bytes)))
    for line in aligned(rows, right=(4, 5)):
        click.echo(line, err=True)
