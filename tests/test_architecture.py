"""The doors between the rooms are shut: who may import whom, and what comes with what."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vggspec.cli import COMMANDS
from vggspec.compiler.passes import TRAINING, inference

#: Room: its folder, the parts of vggspec that it may import, and the libraries that it may import
#: at module level; inside a function any library may be imported.
BASE = {
    "source", "diagnostic", "render", "catalogue", "recipe", "bundle", "files", "optional",
    "profile", "engine", "trt", "machine", "compatibility", "tensors", "paper", "exchange",
    "interrupt", "names", "fields",
}  # fmt: skip
ROOMS: dict[str, tuple[str, set[str], set[str]]] = {
    "base": ("vggspec", BASE | {"cli", "compiler", "data", "runtime", "train", "lang"}, set()),
    "catalogue": ("vggspec/catalogue", BASE, set()),
    "lang": ("vggspec/lang", BASE | {"lang"}, {"lark"}),
    "ops": ("compiler/ops", BASE | {"lang", "compiler"}, set()),
    "passes": ("compiler/passes", BASE | {"lang", "compiler"}, set()),
    "importing": ("compiler/importing", BASE | {"lang", "compiler"}, {"numpy"}),
    "core": ("compiler", BASE | {"lang", "compiler"}, {"numpy", "ml_dtypes"}),
    "backends": (
        "compiler/backends",
        BASE | {"lang", "compiler"},
        {"numpy", "onnx", "torch", "safetensors"},
    ),
    "data": ("vggspec/data", BASE | {"data"}, {"numpy", "PIL"}),
    "runtime": ("runtime", BASE | {"data", "runtime"}, {"numpy", "PIL", "onnxruntime"}),
    "evaluation": ("runtime/evaluation", BASE | {"data", "runtime"}, {"numpy", "PIL"}),
    "localisation": ("runtime/localisation", BASE | {"data", "runtime"}, {"numpy", "PIL"}),
    "features": ("runtime/features", BASE | {"data", "runtime"}, {"numpy"}),
    "train": (
        "vggspec/train",
        BASE | {"data", "lang", "compiler", "runtime", "train"},
        {"numpy", "torch", "PIL"},
    ),
    "cli": (
        "vggspec/cli",
        BASE | {"cli", "data", "lang", "compiler", "runtime", "train", "demo"},
        {"click", "rich"},
    ),
}
#: Core files that `vggspec check` loads, so not even numpy.
LIGHT = {
    "__init__",
    "ir",
    "lower",
    "claims",
    "image_input",
    "naming",
    "cost",
    "figure",
    "difference",
}
STDLIB = set(__import__("sys").stdlib_module_names)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text("utf-8"))
    deferred: set[ast.AST] = set()
    for node in ast.walk(tree):
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if is_typing or isinstance(node, ast.FunctionDef):
            deferred.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node not in deferred
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module in ("vggspec", "vggspec.catalogue", "vggspec.compiler"):
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node not in deferred
            else:
                yield node.module, node not in deferred


FILES = [
    (room, path)
    for room, (folder, _, _) in ROOMS.items()
    for path in sorted((ROOT / folder).glob("*.py"))
]


@pytest.mark.parametrize(("room", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_a_room_imports_what_it_may(room: str, path: Path) -> None:
    _, rooms, libraries = ROOMS[room]
    if path.name in ("__main__.py", "demo.py"):
        libraries = {"numpy", "PIL", "click", "rich"}
        rooms = rooms | {"demo"}
    for name, at_module_level in imports(path):
        top, _, rest = name.partition(".")
        assert top not in ("compiler", "runtime", "specs"), f"{path} imports {name}"
        if top == "vggspec":
            part = rest.partition(".")[0]
            if not part or part in ("__version__", "load", "compile", "torch_module"):
                continue
            if room == "base" and not at_module_level:
                continue
            if room == "base" and path.name != "demo.py":
                assert part in BASE | {"cli"}, f"{path} imports {name}"
                assert part != "cli" or path.name == "__main__.py"
            assert part in rooms, f"{path} imports {name}"
        elif top not in STDLIB and at_module_level:
            assert top in libraries, f"{path} imports {name} at module level"
            assert room != "core" or path.stem not in LIGHT, f"{path} imports {name}"


def test_every_module_is_imported_as_part_of_vggspec() -> None:
    """And by one name only: a second copy of a module would have classes of its own."""
    import vggspec

    names = [m.name for m in pkgutil.walk_packages(vggspec.__path__, "vggspec.")]
    assert "vggspec.lang.parser" in names
    for name in ("vggspec.compiler.ir", "vggspec.runtime.predictor", "vggspec.train.loop"):
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


def test_every_room_says_what_it_is() -> None:
    for path in [*ROOT.glob("*/*.py"), *ROOT.glob("*/*/*.py")]:
        if path.name == "__init__.py" and path.is_relative_to(ROOT / "tests"):
            continue
        if any(part.startswith(".") or part in ("build", "demo") for part in path.parts[1:]):
            continue
        first = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert first, f"{path} has no docstring"
