"""Manifests of format 1, which have no ``options``.

They name some options at their top, ``finer_stride`` or ``fp32_layers``, and the others follow from
the description of the engine and of the outputs. What they do not say, such as the builder's
number of threads, is the default.
"""

from dataclasses import dataclass
from typing import Annotated

from vggspec.base.bounds import Range
from vggspec.base.diagnostic import VggspecError
from vggspec.base.fields import Fields, read
from vggspec.base.recipe import MAX_SCALE, Average, Form, Rounding, TestProtocol
from vggspec.bundle.engine import RTX_DEFAULT, Engine
from vggspec.bundle.options import CompileOptions, EngineOptions, Precision
from vggspec.bundle.profile import Size, derive_profiles

USUAL_LEVEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The options at the top of a manifest."""

    form: Form
    average: Average
    pool: Rounding | None
    finer_stride: Annotated[int, Range(1, MAX_SCALE)] | None
    layer: str | None
    precision: Precision
    fp32_layers: tuple[str, ...] = ()


def read_options(data: Fields) -> CompileOptions:
    """The options that the manifest names.

    Raises:
        BadFieldError: one of them is malformed.
    """
    named = read(Named, data)
    return CompileOptions(
        form=named.form,
        average=named.average,
        pool=named.pool,
        stride=named.finer_stride,
        layer=named.layer,
        precision=named.precision,
        keep_fp32=named.fp32_layers,
    )


def engine_options(
    engine: Engine, test: TestProtocol, *, least: Size, window: Size, is_dynamic: bool
) -> EngineOptions:
    """The options that an engine was built with, from the facts about it.

    The profiles are left out where they are those of the test protocol.
    """
    profiles, max_batch = engine.profiles, None
    for batch in (None, max(profile.max[0] for profile in engine.profiles)):
        try:
            derived = derive_profiles(
                test, least=least, window=window, is_dynamic=is_dynamic, max_batch=batch
            )
        except VggspecError:
            break
        if derived == engine.profiles:
            profiles, max_batch = (), batch
            break
    is_default = engine.is_open_ended and engine.capabilities == RTX_DEFAULT
    is_named = engine.flavour == "tensorrt_rtx" and not is_default
    return EngineOptions(
        flavour=engine.flavour,
        profiles=profiles,
        max_batch=max_batch,
        tf32=engine.tf32,
        capabilities=engine.capabilities if is_named else (),
        level=None if engine.level == USUAL_LEVEL else engine.level,
        version_compatible=engine.is_version_compatible,
        hardware=engine.hardware,
        refittable=engine.refit == "all"
        or (engine.refit == "identical" and not engine.is_stripped),
        strip_weights=engine.is_stripped,
    )
