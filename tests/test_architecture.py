"""The doors between the rooms are shut: who may import whom, and what comes with what."""

import ast
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vggspec.cli import COMMANDS
from vggspec.compiler.passes import TRAINING, inference

#: The floors of the house, from the ground up. A room uses the floors below its own, never a floor
#: above and never another room beside it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("base",),
    ("lang", "data", "bundle"),
    ("runtime",),
    ("compiler",),
    ("studies", "training"),
    ("vggspec",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

#: Libraries that the modules of a folder may import while they are imported themselves; inside a
#: function any library may be imported. The longest prefix of a module's name decides.
LIBRARIES: dict[str, set[str]] = {
    "vggspec": set(),
    "vggspec.base": set(),
    "vggspec.bundle": set(),
    "vggspec.lang": {"lark"},
    "vggspec.data": {"numpy", "PIL"},
    "vggspec.runtime": {"numpy", "PIL", "onnxruntime"},
    "vggspec.runtime.openvino_session": {"numpy", "openvino"},
    "vggspec.compiler": {"numpy", "ml_dtypes"},
    "vggspec.compiler.ops": set(),
    "vggspec.compiler.passes": set(),
    "vggspec.compiler.backends": {"numpy", "onnx", "torch", "safetensors"},
    "vggspec.compiler.bundling": {"numpy", "onnx", "safetensors"},
    "vggspec.compiler.quantising": {"numpy", "onnx"},
    "vggspec.studies": {"numpy", "PIL"},
    "vggspec.training": {"numpy", "torch", "PIL"},
    "vggspec.cli": {"click", "rich"},
}

#: Core files that `vggspec check` loads, so not even numpy.
LIGHT = {
    f"vggspec.compiler.{name}"
    for name in (
        "ir", "tensor", "lower", "claims", "image_input", "naming", "cost", "figure", "difference",
        "checking", "formatting", "summary",
    )
}  # fmt: skip
STDLIB = set(__import__("sys").stdlib_module_names)


@dataclass(frozen=True)
class Import:
    name: str
    is_deferred: bool


def sources() -> dict[str, Path]:
    """All modules of the package, by name."""
    found = {}
    for folder, package in (
        ("vggspec", "vggspec"),
        ("compiler", "vggspec.compiler"),
        ("runtime", "vggspec.runtime"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


MODULES = sources()


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """What a file imports; names of our own as modules, not as what is taken from them."""
    found: list[Import] = []
    tree = ast.parse(path.read_text("utf-8"))
    deferred: set[ast.AST] = set()
    for node in ast.walk(tree):
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if is_typing or isinstance(node, ast.FunctionDef):
            deferred.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node in deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                name = name if name in MODULES else node.module
                found.append(Import(name, node in deferred))
    return tuple(found)


def room(module: str) -> str:
    """The part of the package that a module belongs to."""
    parts = module.split(".")
    return "vggspec" if len(parts) == 1 else "cli" if parts[1] == "__main__" else parts[1]


@pytest.mark.parametrize("module", MODULES)
def test_a_room_uses_the_floors_below_it(module: str) -> None:
    """Imports inside functions and for type checkers are no way around."""
    for found in imports(MODULES[module]):
        assert found.name.partition(".")[0] not in ("compiler", "runtime", "specs"), found
        if found.name.partition(".")[0] == "vggspec":
            mine, other = room(module), room(found.name)
            assert mine == other or LEVEL[other] < LEVEL[mine], f"{module} imports {found.name}"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads_the_libraries_of_its_room(module: str) -> None:
    libraries = LIBRARIES[max((p for p in LIBRARIES if is_in(module, p)), key=len)]
    for found in imports(MODULES[module]):
        top = found.name.partition(".")[0]
        if top == "vggspec" or top in STDLIB or found.is_deferred:
            continue
        assert top in libraries, f"{module} imports {found.name} while it is imported"
        assert module not in LIGHT, f"{module} imports {found.name}"


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, by Tarjan's algorithm."""
    found: list[list[str]] = []
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in numbers:
            visit(module)
    return found


def test_no_modules_import_each_other() -> None:
    """Not even inside functions or for type checkers."""
    graph = {
        module: {found.name for found in imports(path) if found.name in MODULES} - {module}
        for module, path in MODULES.items()
    }
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_every_module_belongs_to_a_room() -> None:
    assert {room(module) for module in MODULES} == set(LEVEL)


def test_every_module_is_imported_as_part_of_vggspec() -> None:
    """And by one name only: a second copy of a module would have classes of its own."""
    import vggspec

    names = [m.name for m in pkgutil.walk_packages(vggspec.__path__, "vggspec.")]
    assert "vggspec.lang.parser" in names
    for name in ("vggspec.compiler.ir", "vggspec.runtime.predictor", "vggspec.training.loop"):
        module = importlib.import_module(name)
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_test_file(command: str) -> None:
    assert (ROOT / "tests" / "cli" / f"test_{command}.py").is_file() or (
        ROOT / "tests" / f"test_{command}.py"
    ).is_file()


def test_every_pass_is_a_file_of_its_name() -> None:
    for each in {*TRAINING, *inference("dense"), *inference("crop")}:
        assert (ROOT / "compiler" / "passes" / f"{each.name.replace('-', '_')}.py").is_file()
