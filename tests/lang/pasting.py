"""Tables as they are pasted, and the nets that a spec has."""

from pathlib import Path

from vggspec.base.source import Source
from vggspec.compiler.lower import lower
from vggspec.lang.loading import net_name
from vggspec.lang.parser import parse

FOLDER = Path(__file__).parent / "pasted_tables"

#: Table 1 of Simonyan & Zisserman 2015 in each form.
FORMS = ("vgg-tabs.txt", "vgg-spaces.txt", "vgg-markdown.txt", "vgg-page.html", "vgg-source.tex")


def pasted(name: str) -> str:
    """The text of one of the tables."""
    return (FOLDER / name).read_text("utf-8")


def nets(text: str) -> dict[str, list[tuple[object, ...]]]:
    """The layers of each net of a spec: names, ops, shapes, parameters."""
    document = parse(Source("specs.vgg", text))
    found = {}
    for spec in document.specs:
        network = lower(spec).network
        layers = [(one.name, one.op, one.type, one.params) for one in network.layers]
        found[net_name(spec)] = [(network.input,), *layers]
    return found
