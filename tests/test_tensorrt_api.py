"""Every name of TensorRT that our code writes, held against what five releases of it have.

``tests/tensorrt_api`` has the public names of the real bindings: of TensorRT 10.0, 10.16, 11.0
and 11.4, and of TensorRT-RTX 1.7. So code that no GPU here has run is still known to call what
exists. Which objects are TensorRT's is known from where they come: constructors of the module, what
their methods return, and annotations with the names in ``vggspec.runtime.tensorrt.api``.
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
    "runtime/tensorrt/*.py",
    "compiler/backends/tensorrt/*.py",
    "docs/embedding/*.py",
    "benchmarks/peers/plain_trt.py",
)
FILES = [path for glob in GLOBS for path in sorted(ROOT.glob(glob))]
MODULE = ""

CLASSES = frozenset().union(*LISTINGS.values())

#: The names of the module itself, in annotations and as a variable.
LIBRARY, TRT = "Library", "trt"

#: What methods return.
RETURNS = {
    ("Builder", "create_builder_config"): "IBuilderConfig",
    ("Builder", "create_network"): "INetworkDefinition",
    ("Builder", "create_optimization_profile"): "IOptimizationProfile",
    ("IBuilderConfig", "create_timing_cache"): "ITimingCache",
    ("IBuilderConfig", "get_timing_cache"): "ITimingCache",
    ("ICudaEngine", "create_engine_inspector"): "EngineInspector",
    ("ICudaEngine", "create_execution_context"): "IExecutionContext",
    ("ICudaEngine", "create_runtime_config"): "IRuntimeConfig",
    ("ICudaEngine", "create_serialization_config"): "ISerializationConfig",
    ("ILayer", "get_input"): "ITensor",
    ("ILayer", "get_output"): "ITensor",
    ("INetworkDefinition", "get_input"): "ITensor",
    ("INetworkDefinition", "get_layer"): "ILayer",
    ("INetworkDefinition", "get_output"): "ITensor",
    ("OnnxParser", "get_error"): "ParserError",
    ("OnnxParserRefitter", "get_error"): "ParserError",
    ("Runtime", "deserialize_cuda_engine"): "ICudaEngine",
}

#: Parameters and results of functions in programs that do without annotations.
FUNCTIONS = {
    ("create_context", "plan_engine"): "ICudaEngine",
    ("create_context", "return"): "IExecutionContext",
    ("infer", "context"): "IExecutionContext",
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


class Kinds(ast.NodeVisitor):
    """The class of TensorRT's that each expression in a file is an object of."""

    def __init__(self, tree: ast.AST) -> None:
        self.of: dict[ast.AST, str] = {}
        self._names: dict[str, str] = {}
        self._results: dict[str, str] = {}
        self._attributes: dict[str, str] = {}
        for _ in range(2):  # attributes may be used before they are assigned
            self.visit(tree)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before, self._attributes = self._attributes, self._attributes_of(node)
        self.generic_visit(node)
        vars(node)["kinds"] = self._attributes  # for the second time
        self._attributes = before

    @staticmethod
    def _attributes_of(node: ast.ClassDef) -> dict[str, str]:
        found: dict[str, str] = vars(node).get("kinds", {})
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                kind = annotated(each.annotation)
                if kind is not None:
                    found[each.target.id] = kind
        return found

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, self._names = self._names, dict(self._names)
        for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            kind = annotated(arg.annotation) or FUNCTIONS.get((node.name, arg.arg))
            self._set(arg.arg, kind)
        result = annotated(node.returns) or FUNCTIONS.get((node.name, "return"))
        if result is not None:
            self._results[node.name] = result
        self.generic_visit(node)
        self._names = before

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        self._assign(node.target, annotated(node.annotation))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        kind = self.of.get(node.value)
        for target in node.targets:
            self._assign(target, kind)

    def visit_Name(self, node: ast.Name) -> None:
        self._say(node, MODULE if node.id == TRT else self._names.get(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if self.of.get(node.value) == MODULE:
            self._say(node, node.attr)  # an enumeration or another class of the module
        elif node.attr.lstrip("_") == TRT:
            self._say(node, MODULE)
        elif isinstance(node.value, ast.Name) and node.value.id == "self":
            self._say(node, self._attributes.get(node.attr))

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Attribute) and self.of.get(called.value) == MODULE:
            self._say(node, called.attr if called.attr in CLASSES else None)
        elif isinstance(called, ast.Attribute):
            kind = RETURNS.get((self.of.get(called.value, ""), called.attr))
            self._say(node, kind or self._results.get(called.attr))
        elif isinstance(called, ast.Name):
            self._say(node, self._results.get(called.id))

    def _assign(self, target: ast.expr, kind: str | None) -> None:
        if isinstance(target, ast.Name):
            self._set(target.id, kind)
        elif isinstance(target, ast.Attribute) and kind and ast.unparse(target.value) == "self":
            self._attributes[target.attr] = kind

    def _set(self, name: str, kind: str | None) -> None:
        if kind is None:
            self._names.pop(name, None)
        else:
            self._names[name] = kind

    def _say(self, node: ast.AST, kind: str | None) -> None:
        if kind is not None:
            self.of[node] = kind


def annotated(annotation: ast.expr | None) -> str | None:
    """The class that an annotation names, if it is one of TensorRT's."""
    name = getattr(annotation, "id", None) or getattr(annotation, "attr", None)
    if isinstance(annotation, ast.Constant):
        name = annotation.value
    return MODULE if name == LIBRARY else name if name in CLASSES else None


def uses(tree: ast.AST) -> Iterator[Use]:
    """All that a file asks of TensorRT's objects."""
    of = Kinds(tree).of

    def walk(node: ast.AST, function: ast.AST) -> Iterator[Use]:
        inner = node if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            kind = of.get(node.value)
            if kind is not None:
                yield Use(kind, node.attr, node.lineno, is_guard=False, function=inner)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = node.func.id
            if asked in ("getattr", "hasattr") and isinstance(node.args[1], ast.Constant):
                kind, member = of.get(node.args[0]), node.args[1].value
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
        kinds = {kind for kind, _ in RETURNS} | set(RETURNS.values())
        assert not kinds - set(names) - {"IRuntimeConfig"}


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
    """The names that matter most are found, so objects are recognised."""
    used = {(use.kind, use.member) for path in FILES for use in uses(parsed(path))}
    for kind, member in (
        ("Runtime", "deserialize_cuda_engine"),
        ("Builder", "build_serialized_network_to_stream"),
        ("EngineInspector", "get_engine_information"),
        ("IBuilderConfig", "set_memory_pool_limit"),
        ("ICudaEngine", "create_execution_context"),
        ("ICudaEngine", "serialize_with_config"),
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_device_memory"),
        ("IExecutionContext", "set_input_shape"),
        ("ILayer", "get_output"),
        ("INetworkDefinition", "num_layers"),
        ("IOptimizationProfile", "set_shape"),
        ("IRuntimeConfig", "set_execution_context_allocation_strategy"),
        ("ISerializationConfig", "clear_flag"),
        ("ITensor", "dtype"),
        ("ITimingCache", "serialize"),
        ("OnnxParser", "parse_model_proto"),
        ("OnnxParserRefitter", "refit_model_proto"),
        ("ParserError", "desc"),
        ("Refitter", "refit_cuda_engine"),
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
        (MODULE, "Runtime"),
        (MODULE, "ILogger"),
    ):
        assert (kind, member) in used


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_misspelling_would_be_found(path: Path) -> None:
    results = [each for each in parsed(path).body if isinstance(each, ast.FunctionDef)]
    for part in copy.deepcopy(parsed(path)).body:
        module = ast.Module([*(each for each in results if each.name != name_of(part)), part], [])
        of = Kinds(module).of
        for node in ast.walk(part):
            if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
                continue
            if node.value not in of:
                continue
            name, node.attr = node.attr, node.attr[:-1] + node.attr[-2:]
            assert any(f".{node.attr}` exists nowhere" in one for one in problems(module)), name
            node.attr = name


def name_of(part: ast.stmt) -> str:
    return getattr(part, "name", "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f(c: IExecutionContext): c.execute_async_v4(1)", "exists nowhere"),
        ("def f(c: 'api.IExecutionContext'): pass\ntrt.Runtime(1).loadd(2)", "exists nowhere"),
        ("builder = trt.Builder(x)\nbuilder.create_network(1).get_layer(0).nam", "exists nowhere"),
        ("class A:\n b: Builder\n def f(self): self.b.buildd()", "exists nowhere"),
        ("getattr(trt.BuilderFlag, 'TF23')", "exists nowhere"),
        ("flag = trt.BuilderFlag.FP16", "not among BRANCHES"),
        ("r = trt.Runtime(x)\nr.engine_header_size", "not among BRANCHES"),
        ("def f(c: IExecutionContext): c.set_device_memory(1, 2)", "without asking"),
        (
            (
                "c: Builder = x\ndef g(): hasattr(c, 'build_serialized_network_to_stream')\n"
                "f = c.build_serialized_network_to_stream"
            ),
            "asking",
        ),
        (
            "if flavour == 'x': pass\ndef f(c: IExecutionContext): c.is_stream_capturable(1)",
            "without asking",
        ),
    ],
)
def test_what_no_release_has_is_found(code: str, words: str) -> None:
    assert [words in problem for problem in problems(ast.parse(code))] == [True]


@pytest.mark.parametrize(
    "code",
    [
        "def f(c: IExecutionContext): hasattr(c, 'set_device_memory') and c.set_device_memory(1)",
        "def f(c: IExecutionContext): return getattr(c, 'is_stream_capturable', None)",
        "def f(self, e: ICudaEngine):\n if self._flavour == 'x': e.create_runtime_config()",
        "trt.Runtime.__init__(self)",
        "profile.min, other.whatever, trt.BuilderFlag.TF32.name",
    ],
)
def test_what_is_allowed_for_is_allowed(code: str) -> None:
    assert problems(ast.parse(code)) == []
