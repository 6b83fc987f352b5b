"""Every name of TensorRT that our code writes, held against what five releases of it have.

``tests/tensorrt_api`` holds the public names of the real bindings: of TensorRT 10.0, 10.16, 11.0
and 11.4, and of TensorRT-RTX 1.7. So code that no GPU here has run is still known to call what
exists. It works because our code keeps TensorRT's objects in variables of fixed names, with or
without an underscore before them.
"""

import ast
import copy
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

LISTINGS: dict[str, dict[str, frozenset[str]]] = {
    path.stem: {kind: frozenset(names) for kind, names in json.loads(path.read_text()).items()}
    for path in sorted((ROOT / "tests" / "tensorrt_api").glob("*.json"))
}
GLOBS = (
    "runtime/tensorrt/seam.py",
    "runtime/tensorrt/plan.py",
    "runtime/tensorrt/session.py",
    "compiler/backends/tensorrt/*.py",
    "docs/embedding/*.py",
    "benchmarks/peers/plain_trt.py",
)
FILES = [path for glob in GLOBS for path in sorted(ROOT.glob(glob))]
MODULE = ""

#: A variable or attribute of that name holds an object of that class.
VARIABLES = {
    "trt": MODULE,
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine_runtime": "Runtime",
    "error_": "ParserError",
    "inspector": "EngineInspector",
    "layer_": "ILayer",
    "network_definition": "INetworkDefinition",
    "onnx_parser": "OnnxParser",
    "onnx_refitter": "OnnxParserRefitter",
    "plan_engine": "ICudaEngine",
    "refitter": "Refitter",
    "runtime_config": "IRuntimeConfig",
    "serialization_config": "ISerializationConfig",
    "shapes": "IOptimizationProfile",
    "tensor_": "ITensor",
    "timing_cache": "ITimingCache",
}

FIRST = frozenset({"10.0.1"})
CLASSIC = frozenset(LISTINGS) - {"rtx-1.7"}
STRATEGY = "DynamicShapesKernelSpecializationStrategy"


@dataclass(frozen=True, slots=True)
class Branch:
    """Why a name may be used that not every release has."""

    without: frozenset[str]
    """The listings that lack it."""

    why: str
    asked_in: str | None = None
    """The function that asks for it or for the flavour, and calls the one that uses it; None where
    that is the same."""


#: What not every release has, by class and name.
BRANCHES: dict[tuple[str, str], Branch] = {
    ("OnnxParserRefitter", "load_initializer"): Branch(FIRST, "10.0 reads weights from files"),
    ("OnnxParserRefitter", "load_model_proto"): Branch(FIRST, "10.0 reads weights from files"),
    ("OnnxParserRefitter", "refit_model_proto"): Branch(FIRST, "10.0 reads weights from files"),
    ("SerializationFlag", "INCLUDE_REFIT"): Branch(FIRST, "10.0 writes engines that take no more"),
    ("IExecutionContext", "set_device_memory"): Branch(FIRST, "10.0 has `device_memory` instead"),
    ("IExecutionContext", "is_stream_capturable"): Branch(CLASSIC, "only RTX tells"),
    ("ICudaEngine", "create_runtime_config"): Branch(FIRST, "used of RTX alone"),
    ("IRuntimeConfig", "set_execution_context_allocation_strategy"): Branch(
        FIRST, "used of RTX alone"
    ),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"): Branch(
        CLASSIC, "only RTX compiles kernels while it runs"
    ),
    (MODULE, STRATEGY): Branch(CLASSIC, "as above"),
    (STRATEGY, "EAGER"): Branch(CLASSIC, "as above"),
    ("OnnxParser", "load_initializer"): Branch(FIRST, "10.0 reads weights from files"),
    ("OnnxParser", "load_model_proto"): Branch(FIRST, "10.0 reads weights from files"),
    ("OnnxParser", "parse_model_proto"): Branch(FIRST, "10.0 reads weights from files"),
    ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"): Branch(FIRST, "came with 10.9"),
    ("Builder", "build_serialized_network_to_stream"): Branch(FIRST, "came with 10.13"),
    (MODULE, "IStreamWriter"): Branch(FIRST, "as above", asked_in="_build"),
    (MODULE, "ComputeCapability"): Branch(CLASSIC, "only RTX builds for others", "configure"),
    ("IBuilderConfig", "num_compute_capabilities"): Branch(CLASSIC, "as above", "configure"),
    ("IBuilderConfig", "set_compute_capability"): Branch(CLASSIC, "as above", "configure"),
}


@dataclass(frozen=True, slots=True)
class Use:
    """A name that the code asks an object of TensorRT for."""

    kind: str
    member: str
    line: int
    is_guard: bool
    """Asked in a way that takes no for an answer."""

    function: ast.AST


def has(listing: str, kind: str, member: str) -> bool:
    names = LISTINGS[listing]
    if kind == MODULE:
        return member in names or member in names[MODULE]
    return member in names.get(kind, frozenset())


def lacking(kind: str, member: str) -> frozenset[str]:
    return frozenset(listing for listing in LISTINGS if not has(listing, kind, member))


def kind_of(node: ast.expr) -> str | None:
    """The class of the object that an expression holds, if a fixed name tells it."""
    name = node.id if isinstance(node, ast.Name) else None
    if isinstance(node, ast.Attribute):
        if kind_of(node.value) == MODULE:
            return node.attr  # an enumeration or another class of the module
        name = node.attr
    return None if name is None else VARIABLES.get(name.lstrip("_"))


def uses(tree: ast.Module) -> Iterator[Use]:
    """All that a file asks of TensorRT's objects."""

    def walk(node: ast.AST, function: ast.AST) -> Iterator[Use]:
        inner = node if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            kind = kind_of(node.value)
            if kind is not None:
                yield Use(kind, node.attr, node.lineno, is_guard=False, function=inner)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = node.func.id
            if asked in ("getattr", "hasattr") and isinstance(node.args[1], ast.Constant):
                kind, member = kind_of(node.args[0]), node.args[1].value
                is_guard = asked == "hasattr" or len(node.args) == 3
                if kind is not None and not member.startswith("__"):
                    yield Use(kind, member, node.lineno, is_guard, inner)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inner)

    return walk(tree, tree)


def looks_at_flavour(function: ast.AST) -> bool:
    """Whether a function compares the flavour."""
    for node in ast.walk(function):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                name = getattr(side, "id", None) or getattr(side, "attr", None) or ""
                if name.lstrip("_").endswith("flavour"):
                    return True
    return False


def problems(tree: ast.Module) -> list[str]:
    """What a file asks for that a release lacks, and does not allow for."""
    found = []
    all_uses = list(uses(tree))
    for use in all_uses:
        without = lacking(use.kind, use.member)
        if not without:
            continue
        name = f"line {use.line}: `{use.kind or 'the module'}.{use.member}`"
        branch = BRANCHES.get((use.kind, use.member))
        if len(without) == len(LISTINGS):
            found.append(f"{name} exists nowhere")
        elif branch is None or branch.without != without:
            found.append(f"{name} lacks in {', '.join(sorted(without))}: not among BRANCHES")
        elif not any(
            asks(function, all_uses, use.kind, without)
            for function in (use.function, *callers(tree, use.function, branch.asked_in))
        ):
            found.append(f"{name} is used without asking whether it is there")
    return found


def asks(function: ast.AST, all_uses: list[Use], kind: str, without: frozenset[str]) -> bool:
    """Whether a function asks for the flavour, or for a name that comes and goes with another."""
    return looks_at_flavour(function) or any(
        use.is_guard and use.function is function and without <= lacking(use.kind, use.member)
        for use in all_uses
    )


def callers(tree: ast.Module, function: ast.AST, name: str | None) -> Iterator[ast.AST]:
    """The functions of that name that call another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            called = {
                getattr(each.func, "id", None) or getattr(each.func, "attr", None)
                for each in ast.walk(node)
                if isinstance(each, ast.Call)
            }
            if any(
                isinstance(inside, ast.FunctionDef) and inside.name in called
                for inside in ast.walk(tree)
                if inside is function or function in ast.walk(inside)
            ):
                yield node


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def test_the_listings_are_there() -> None:
    assert set(LISTINGS) == {"10.0.1", "10.16", "11.0", "11.4", "rtx-1.7"}
    for names in LISTINGS.values():
        assert "execute_async_v3" in names["IExecutionContext"]
        assert not set(VARIABLES.values()) - set(names) - {MODULE, "IRuntimeConfig"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_name_exists(path: Path) -> None:
    assert problems(parsed(path)) == []


def test_every_branch_is_needed() -> None:
    used = {(use.kind, use.member) for path in FILES for use in uses(parsed(path))}
    for name, branch in BRANCHES.items():
        assert name in used, f"nothing uses {name}"
        assert lacking(*name) == branch.without, name
        assert branch.without, name


def test_our_code_is_seen() -> None:
    """The names that matter most are found, so the fixed names are kept to."""
    used = {(use.kind, use.member) for path in FILES for use in uses(parsed(path))}
    for kind, member in (
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "create_execution_context"),
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_input_shape"),
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
        (MODULE, "Runtime"),
        (MODULE, "ILogger"),
    ):
        assert (kind, member) in used


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_misspelling_would_be_found(path: Path) -> None:
    for part in copy.deepcopy(parsed(path)).body:
        module = ast.Module([part], [])
        for node in ast.walk(part):
            if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
                continue
            if kind_of(node.value) is None:
                continue
            name, node.attr = node.attr, node.attr[:-1] + node.attr[-2:]
            assert any(f".{node.attr}` exists nowhere" in one for one in problems(module)), name
            node.attr = name


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("self._context.execute_async_v4(1)", "exists nowhere"),
        ("getattr(trt.BuilderFlag, 'TF23')", "exists nowhere"),
        ("flag = trt.BuilderFlag.FP16", "not among BRANCHES"),
        ("engine_runtime.engine_header_size", "not among BRANCHES"),
        ("def f(context): context.set_device_memory(1, 2)", "without asking"),
        ("def g(): hasattr(context, 'set_device_memory')\nf = context.set_device_memory", "asking"),
        ("if flavour == 'x': pass\ndef f(): context.is_stream_capturable(1)", "without asking"),
    ],
)
def test_what_no_release_has_is_found(code: str, words: str) -> None:
    assert [words in problem for problem in problems(ast.parse(code))] == [True]


@pytest.mark.parametrize(
    "code",
    [
        "def f(): hasattr(context, 'set_device_memory') and context.set_device_memory(1, 2)",
        "def f(): return getattr(context, 'is_stream_capturable', None)",
        "def f(self):\n if self._flavour == 'tensorrt_rtx': plan_engine.create_runtime_config()",
        "trt.Runtime.__init__(self)",
        "profile.min, other.whatever, trt.BuilderFlag.TF32.name",
    ],
)
def test_what_is_allowed_for_is_allowed(code: str) -> None:
    assert problems(ast.parse(code)) == []
