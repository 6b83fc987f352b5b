"""Protocols and settings in words, as tables, messages and reports show them."""

from typing import NamedTuple

from vggspec.base.wording import all_of
from vggspec.runtime.protocol import Way
from vggspec.studies.evaluation.question import Asked, NetLooks, Question, Setting


class SettingWords(NamedTuple):
    """A setting in words."""

    nets: str
    scales: str
    ways: str


def setting_in_words(question: Question, setting: Setting) -> SettingWords:
    """A setting's nets, scales and ways: ``D + E``, ``256, 384``, ``dense, crops 5×5``."""

    def ways(part: NetLooks) -> str:
        return ", ".join(way_name(question.nets[part.net], way) for way in part.ways)

    parts = setting.parts
    return SettingWords(
        " + ".join(question.nets[part.net].name for part in parts),
        " + ".join(dict.fromkeys(", ".join(map(str, part.scales)) for part in parts)),
        " + ".join(dict.fromkeys(ways(part) for part in parts)),
    )


def protocol_in_words(asked: Asked) -> str:
    """A net's protocol in a line."""
    protocol = asked.protocol
    mirrored = "with" if protocol.flip else "without"
    ways = all_of([way_name(asked, way) for way in asked.ways])
    scales = ", ".join(map(str, protocol.scales))
    by = ", rescaled as by torchvision" if protocol.resize == "torchvision" else ""
    return f"Q {scales}{by}, {ways}, {mirrored} mirror images"


def way_name(asked: Asked, way: Way) -> str:
    """``dense``, ``central crop`` or ``crops 5×5``."""
    number = asked.protocol.crops or 1
    if way == "dense":
        return "dense"
    return "central crop" if number == 1 else f"crops {number}×{number}"
