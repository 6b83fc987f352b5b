"""Facts about a TensorRT engine: the manifest's ``engine`` section.

A plan is a program for one kind of machine, and nothing in it can be read without loading it. So
the facts are here, beside it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from vggspec.base.bounds import AtMost, Range
from vggspec.bundle.profile import Profile

MAX_ENTRIES = 256
"""Of a list of profiles or of compute capabilities."""

Flavour = Literal["tensorrt", "tensorrt_rtx"]
Hardware = Literal["none", "ampere_plus", "same_compute_capability"]
Refit = Literal["none", "all", "identical"]

#: Compute capabilities that a TensorRT-RTX engine can be built for by name.
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")

#: The default ones; NVIDIA adds "and later".
RTX_DEFAULT = ("8.0", "8.6", "8.9", "12.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A plan: the library that built it, its target, and its properties."""

    flavour: Flavour
    version: str
    """Of the library that built it, such as ``11.4.0.106``."""

    cuda: str | None
    """Major version of the CUDA toolkit that library was built with, where it is known."""

    platform: str
    """Such as ``linux-x86_64``: plans of the classic flavour do not cross."""

    gpu: str | None
    """The GPU it was built on; None where it was built without one."""

    capabilities: Annotated[tuple[str, ...], AtMost(MAX_ENTRIES)]
    """Compute capabilities it was built for, such as ``8.9``."""

    is_open_ended: bool
    """Whether later compute capabilities than the last one are served too."""

    profiles: Annotated[tuple[Profile, ...], AtMost(MAX_ENTRIES)]
    tf32: bool
    """Whether fp32 layers may round their inputs to TF32."""

    hardware: Hardware
    is_version_compatible: bool
    refit: Refit
    """Which weights can be replaced in the plan."""

    is_stripped: bool
    """Whether the plan lacks its weights, which a refit puts in."""

    level: Annotated[int, Range(0, 5)]
    """The builder's optimisation level, 0 to 5."""

    name: str
    """The network's name inside the plan."""
