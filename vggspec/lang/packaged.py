"""The specs that come with vggspec, which are named from anywhere: ``D``, ``table1:D``."""

from functools import lru_cache
from pathlib import Path

SUFFIX = ".vgg"


@lru_cache
def packaged() -> dict[str, str]:
    """The paths of the specs that come with vggspec, by name, the paper's nets first."""
    from importlib import resources  # loads archives and temporary files

    folder = Path(str(resources.files("vggspec.specs")))
    found = folder.glob(f"*{SUFFIX}")
    paths = sorted(found, key=lambda path: (not path.stem[0].isupper(), path.stem))
    return {path.stem: str(path) for path in paths}


def find_packaged(name: str) -> str | None:
    """The path of the packaged spec of that name, in any case of letters; None if none has it."""
    folded = name.casefold()
    return next((path for each, path in packaged().items() if each.casefold() == folded), None)


def title(text: str) -> str:
    """The title in the comment with which a spec begins: its first sentence, up to a colon."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or line.startswith("# Source"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).partition(". ")[0].partition(":")[0].rstrip(".")
