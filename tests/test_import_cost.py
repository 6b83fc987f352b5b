"""No command loads what it does not use: each is run where heavy libraries cannot be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.nets import SMALL, net, random_weights
from vggspec.bundle.options import CompileOptions
from vggspec.cli import COMMANDS
from vggspec.compiler.bundling.graph import write_bundle

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r} or name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked in this test")
sys.meta_path.insert(0, Block())
"""
HEAVY = {"torch", "onnx", "onnxruntime", "tensorrt", "sklearn", "numpy", "PIL", "safetensors"}


def run(program: str, blocked: set[str], *args: str, cwd: Path | None = None) -> str:
    """What a program prints in an interpreter where some modules cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked) + program, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CLI = "from vggspec.cli import run\nsys.exit(run(sys.argv[1:]))\n"


def test_every_command_prints_its_help_without_any_library() -> None:
    program = (
        "from vggspec.cli import run, COMMANDS\n"
        "for command in COMMANDS:\n"
        "    print('##', command)\n"
        "    assert run([command, '--help']) == 0\n"
    )
    out = run(program, HEAVY)
    pages = dict(page.strip().split("\n", 1) for page in out.split("## ") if page.strip())
    assert pages.keys() == COMMANDS.keys()
    for command, page in pages.items():
        assert page.startswith("Usage:"), command
        assert "Example" in page, f"the help of {command} has no example"


@pytest.mark.parametrize(
    "args",
    [
        ("check", "table1.vgg", "digits.vgg"),
        ("show", "D.vgg"),
        ("show", "table1.vgg:E", "--json", "--dense", "--at", "384x512"),
        ("diff", "A.vgg", "D.vgg"),
        ("fmt", "--check", "D.vgg"),
        ("explain", "VGG231"),
    ],
    ids=lambda args: args[0],
)
def test_the_language_needs_lark_alone(args: tuple[str, ...], specs: Path) -> None:
    assert run(CLI, HEAVY, *args, cwd=specs) or args[0] == "fmt"


def test_compile_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    blocked = HEAVY - {"numpy", "onnx"}
    run(CLI, blocked, "init", "small.vgg", cwd=tmp_path)
    assert run(CLI, blocked, "compile", "small.vgg", cwd=tmp_path) == "small\n"
    run(CLI, HEAVY, "compile", "small.vgg", "--torch", cwd=tmp_path)


def test_the_runtime_needs_neither_compiler_nor_torch(tmp_path: Path) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions(keep_map=True))
    program = (
        "import numpy, vggspec\n"
        "with vggspec.load('b', device='cpu') as predictor:\n"
        "    image = numpy.zeros((40, 50, 3), numpy.uint8)\n"
        "    print(len(predictor(image, scales=[32, 40]).top(3)))\n"
    )
    blocked = {"torch", "onnx", "lark", "safetensors", "click", "rich"}
    blocked |= {"vggspec.lang", "vggspec.compiler", "vggspec.training", "vggspec.cli"}
    assert run(program, blocked, cwd=tmp_path) == "3\n"


def test_a_missing_library_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    program = (
        "import importlib.util\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from vggspec.cli import run\n"
        "assert run(['train', 'small.vgg']) == 3\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
    assert 'pip install "vggspec[train]"' in done.stderr
