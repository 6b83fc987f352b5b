"""``vggspec.refit``: new weights in the engine of a bundle."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggspec.base.short_repr import short_repr

if TYPE_CHECKING:
    from vggspec.bundle.manifest import Manifest
    from vggspec.compiler.bundling.refit import Refitted
    from vggspec.compiler.weights import Metadata


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class RefittedBundle(os.PathLike[str]):
    """A bundle whose engine has new weights, which is accepted wherever a path is."""

    path: Path
    refitted: "Refitted"
    weights: "Metadata"
    """What the weights file says about itself."""

    seconds: float

    @property
    def manifest(self) -> "Manifest":
        """Everything that is known about the bundle."""
        return self.refitted.manifest

    def __fspath__(self) -> str:
        return str(self.path)


def refit(
    bundle: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    link_weights: bool = False,
) -> RefittedBundle:
    """Replace the weights in a bundle's TensorRT engine, as ``vggspec refit`` does.

    The engine was built with ``refittable``, or with ``strip_weights`` and gets back the weights
    that it was built from. The bundle is written to ``out``; None replaces ``bundle``. The engine,
    which is native code, is loaded: this needs its GPU and its TensorRT.

    Raises:
        VggspecError: the bundle contains no such engine, the weights are another net's, or TensorRT
            refuses them.
        MissingLibraryError: the engine's GPU or TensorRT is not here.
    """
    from vggspec.bundle.opening import open_bundle
    from vggspec.compiler.bundling import refit as bundles
    from vggspec.compiler.bundling.net import lowered_of
    from vggspec.compiler.weights import open_weights
    from vggspec.runtime.machine import this_machine

    opened, machine = open_bundle(bundle, deep=True), this_machine()
    bundles.check_engine(opened, weights, machine)
    file = open_weights(weights)
    began = time.monotonic()
    path = Path(bundle if out is None else out)
    refitted = bundles.refit(
        opened, lowered_of(opened), file, path, machine, link_weights=link_weights
    )
    return RefittedBundle(
        path=path, refitted=refitted, weights=file.metadata, seconds=time.monotonic() - began
    )
