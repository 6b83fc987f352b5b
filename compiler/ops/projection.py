"""The 1 × 1 conv of a shortcut whose shapes differ, implied by ``shortcut``.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 3.3, option B.
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.syntax import Syntax


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection(Conv):
    """A conv that nobody wrote: the papers do not count it as a weight layer."""

    keyword: ClassVar[str] = "shortcut"
    syntax: ClassVar[Syntax | None] = None
    is_weight_layer: ClassVar[bool] = False

    def write(self) -> str:
        return self.keyword
