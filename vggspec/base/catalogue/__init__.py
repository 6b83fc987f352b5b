"""Every kind of mistake vggspec can report, by theme; each class is its own page.

Codes come in blocks: 0xx the text of a spec, 1xx names and arguments, 2xx shapes, 3xx passes
and backends, 4xx recipes, data and training, 5xx weights and bundles, 6xx engines, annotations and
evaluation, 7xx boxes and features. A code is never reused and never renumbered.
"""

import importlib

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import nearest

THEMES = (
    "annotations",
    "artefacts",
    "backends",
    "benching",
    "checkpoint_files",
    "data",
    "dense",
    "distances",
    "engines",
    "evaluating",
    "exporting",
    "features",
    "files",
    "fusion",
    "graphs",
    "importing",
    "label_maps",
    "layers",
    "localising",
    "maps",
    "masks",
    "merging",
    "onnx_models",
    "pasting",
    "quantising",
    "ranks",
    "recipes",
    "refitting",
    "remote",
    "running",
    "runs",
    "shapes",
    "sharing",
    "sizes",
    "syntax",
    "variants",
    "verifying",
)


def by_code() -> dict[str, type[Diagnostic]]:
    """All kinds of mistake, in the order of their codes."""
    found = {}
    for theme in THEMES:
        module = importlib.import_module(f"vggspec.base.catalogue.{theme}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Diagnostic) and "code" in vars(value):
                assert value.code not in found, value.code
                found[value.code] = value
    return dict(sorted(found.items()))


def explain(code: str) -> str:
    """The page of an error code such as ``VGG231`` or ``231``: code, meaning, examples.

    Raises:
        LookupError: there is no such code; the message names the nearest one.
    """
    catalogue = by_code()
    full = f"VGG{code}" if code.isdecimal() else code.upper()
    if full not in catalogue:
        like = nearest(full, tuple(catalogue))
        message = f"there is no code {code}.{f' Did you mean {like}?' if like else ''}"
        raise LookupError(message)
    return f"{full}\n\n{catalogue[full].page()}"
