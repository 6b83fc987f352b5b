"""The programs of docs/embedding.md do what vggspec does, and what the guide prints is printed.

``classify.py`` and ``classify.cpp`` are run against stand-ins of CUDA and TensorRT. Where
``TENSORRT_INCLUDE`` names the real headers of TensorRT, and ``CUDA_INCLUDE`` those of CUDA unless
they are under /usr/local/cuda, ``classify.cpp`` is compiled against these too.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.cli.run import vggspec
from tests.compiler.bundling.manifests import engine
from tests.conftest import ROOT
from tests.nets import SMALL, net, random_weights, session
from tests.runtime.bundles import CLASSES, Made, make
from vggspec.base import recipe
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle import profile
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import MANIFEST, MODEL, PLAN, InputContract
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.profile import Profile
from vggspec.compiler.bundling import triton
from vggspec.compiler.weights import Metadata, save
from vggspec.runtime import preprocess

GUIDE = (ROOT / "docs" / "embedding.md").read_text("utf-8")
PYTHON = ROOT / "docs" / "embedding" / "classify.py"
CPP = ROOT / "docs" / "embedding" / "classify.cpp"
PROTOCOL = ROOT / "docs" / "embedding" / "protocol.py"
STAND_INS = ROOT / "tests" / "embedding"
PROFILES = (
    Profile((1, 24, 24), (2, 24, 32), (8, 24, 48)),
    Profile((1, 24, 24), (2, 32, 24), (8, 48, 24)),
)
#: What can fail of CUDA and TensorRT, as the stand-ins know it.
CALLS = sorted(
    {
        call
        for path in STAND_INS.glob("*.h")
        for call in re.findall(r'(?:fails|result)\("(\w+)"\)', path.read_text("utf-8"))
    }
)
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def program() -> Any:
    """``classify.py`` as a module."""
    spec = importlib.util.spec_from_file_location("classify", PYTHON)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return with_plan(tmp_path / "small")


def with_plan(folder: Path, **options: Any) -> Made:
    """A bundle whose plan is its graph, which the stand-in of TensorRT loads."""
    made = make(folder, test=recipe.TestProtocol(scales=(24,)), **options)
    (folder / PLAN).write_bytes((folder / MODEL).read_bytes())
    plan = engine(*PROFILES).engine
    assert plan is not None
    changed = replace(
        made.manifest,
        model=PLAN,
        engine=replace(plan, flavour="tensorrt"),
        files=(file_entry(folder, PLAN),),
    )
    (folder / MANIFEST).write_text(changed.to_json(), "utf-8")
    return replace(made, manifest=changed)


def write_image(path: Path, pixels: NDArray[np.uint8], comment: str = "") -> Path:
    height, width, channels = pixels.shape
    magic = "P6" if channels == 3 else "P5"
    header = f"{magic}\n{comment}{width} {height}\n255\n"
    path.write_bytes(header.encode() + pixels.tobytes())
    return path


def photo(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# The Python program.


def imported(program: Path) -> set[str]:
    """The packages that a program imports."""
    names = set()
    for node in ast.walk(ast.parse(program.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_it_needs_no_more_than_it_says() -> None:
    libraries = imported(PYTHON) - set(sys.stdlib_module_names)
    assert libraries == {"numpy", "tensorrt", "tensorrt_rtx", "pycuda"}


@given(
    contract=st.sampled_from(["float", "raw"]),
    color=st.sampled_from(["RGB", "BGR", "gray"]),
    mean=st.lists(st.floats(0, 255), min_size=3, max_size=3),
    std=st.none() | st.lists(st.floats(0.1, 255), min_size=3, max_size=3),
    scale=st.floats(1e-3, 2),
)
def test_it_normalises_as_the_runtime(
    program: Any, contract: Any, color: Any, mean: Any, std: Any, scale: float
) -> None:
    channels = 1 if color == "gray" else 3
    wants = InputContract(
        contract=contract,
        color=color,
        mean=tuple(mean[:channels]),
        std=None if std is None else tuple(std[:channels]),
        scale=scale,
        size=(4, 5),
        is_dynamic=True,
    )
    images = photo(2, 6, 7, channels)
    found = program.normalise(images, json.loads(json.dumps(asdict(wants))))
    expected = preprocess.normalise(images, wants)
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


NUMBER = st.integers(1, 6)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    each = [sorted(draw(st.tuples(NUMBER, NUMBER, NUMBER))) for _ in range(3)]
    least, best, most = ((a, b, c) for a, b, c in zip(*each, strict=True))
    return Profile(least, best, most)


@given(several=st.lists(profiles(), max_size=4), shape=st.tuples(NUMBER, NUMBER, NUMBER))
def test_it_chooses_a_profile_as_the_runtime(
    program: Any, several: list[Profile], shape: tuple[int, int, int]
) -> None:
    data = [asdict(each) for each in several]
    assert program.choose_profile(data, shape) == profile.choose_profile(several, shape)


@pytest.mark.parametrize("comment", ["", "# made by hand\n", "#\n# twice 3 4\n"])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_reads_images(program: Any, comment: str, channels: int, tmp_path: Path) -> None:
    pixels = photo(5, 9, channels)
    path = write_image(tmp_path / "image", pixels, comment)
    np.testing.assert_array_equal(program.read_image(path), pixels)
    saved = tmp_path / "saved.ppm"
    Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(saved)
    np.testing.assert_array_equal(program.read_image(saved), pixels)


@pytest.mark.parametrize(
    "data",
    [b"", b"P3\n1 1\n255\n0 0 0\n", b"P6\n2 2\n65535\n" + bytes(24), b"P6\n2 2\n255\n" + bytes(11)],
)
def test_it_refuses_what_is_no_image(program: Any, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(program.FailureError):
        program.read_image(tmp_path / "image")


def test_it_refuses_a_plan_that_was_changed(program: Any, made: Made) -> None:
    manifest = program.read_manifest(made.path)
    assert program.read_plan(made.path, manifest) == (made.path / MODEL).read_bytes()
    with open(made.path / PLAN, "ab") as file:
        file.write(b"\0")
    with pytest.raises(program.FailureError, match="SHA-256"):
        program.read_plan(made.path, manifest)
    with pytest.raises(VggspecError):
        open_bundle(made.path, deep=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": None}, "not a plan"),
        ({"format": 7}, "format 7"),
        ({"engine": {"is_stripped": True}}, "no weights"),
        ({"outputs": [{"kind": "boxes"}]}, "boxes"),
        ({"outputs": [{"kind": "activations"}, {"kind": "activations"}]}, "activations"),
    ],
    ids=["graph", "newer", "stripped", "boxes", "several"],
)
def test_it_refuses_other_bundles(
    program: Any, made: Made, changes: dict[str, Any], words: str
) -> None:
    text = (made.path / MANIFEST).read_text("utf-8")
    (made.path / MANIFEST).write_text(json.dumps(json.loads(text) | changes))
    with pytest.raises(program.FailureError, match=words):
        program.read_manifest(made.path)


def test_without_tensorrt_it_says_what_to_install(made: Made, tmp_path: Path) -> None:
    block = (
        "import runpy, sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('tensorrt', 'tensorrt_rtx', 'pycuda'):\n"
        "            raise ModuleNotFoundError(f'no {name}', name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    image = write_image(tmp_path / "image.ppm", photo(24, 30, 3))
    command = [sys.executable, "-c", block, PYTHON, made.path, image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: tensorrt is missing: pip install tensorrt pycuda\n"


class FakeCuda:
    """As much of ``pycuda.driver`` as the program uses, on the host's memory."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.is_current = False
        self.is_done = True

    def init(self) -> None:
        pass

    def Device(self, number: int) -> "FakeCuda":  # noqa: N802 (pycuda's name)
        assert number == 0
        return self

    def retain_primary_context(self) -> "FakeCuda":
        return self

    def push(self) -> None:
        self.is_current = True

    def pop(self) -> None:
        self.is_current = False

    def Stream(self, flags: int) -> Any:  # noqa: N802
        assert flags == 1
        assert self.is_current
        return SimpleNamespace(handle=77, synchronize=self.synchronize)

    def synchronize(self) -> None:
        self.is_done = True

    def mem_alloc(self, num_bytes: int) -> int:
        assert self.is_current
        address = 256 * (1 + len(self.memory))
        self.memory[address] = np.zeros(num_bytes, np.uint8)
        return address

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        return np.empty(shape, dtype)

    def memcpy_htod_async(self, to: int, array: NDArray[Any], stream: Any) -> None:
        self.memory[to][:] = np.frombuffer(array.tobytes(), np.uint8)

    def memcpy_dtoh_async(self, array: NDArray[Any], origin: int, stream: Any) -> None:
        self.is_done = False
        array[...] = self.memory[origin].view(array.dtype).reshape(array.shape)


@dataclass
class FakeContext:
    """An execution context that runs a graph; it holds the order of calls."""

    cuda: FakeCuda
    net: Any
    profile: Profile | None = None
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream == 77
        self.profile, self.shape = PROFILES[index], ()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        self.shape = shape
        return self.profile.holds((shape[0], *shape[2:]))

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else ["image"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        number, _, rows, columns = self.shape
        size = () if name == "posteriors" else (rows // 4 - 3, columns // 4 - 3)
        return (number, CLASSES, *size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in ("image", "posteriors", "score_map")

    def execute_async_v3(self, stream: int) -> bool:
        names = [output.name for output in self.net.get_outputs()]
        if stream != 77 or self.addresses.keys() != {"image", *names}:
            return False
        memory = self.cuda.memory
        image = memory[self.addresses["image"]].view(np.float32).reshape(self.shape)
        for name, array in zip(names, self.net.run(None, {"image": image}), strict=True):
            memory[self.addresses[name]].view(np.float32)[:] = array.ravel()
        return True


def fake_tensorrt(cuda: FakeCuda, graph: Path) -> Any:
    class Logger:
        WARNING = 2

        def __init__(self, severity: int) -> None:
            assert severity == self.WARNING

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            assert isinstance(logger, Logger)

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            assert cuda.is_current
            if plan != graph.read_bytes():
                return None
            return SimpleNamespace(create_execution_context=self.create)

        def create(self, strategy: str) -> FakeContext:
            assert strategy == "on profile change"
            return FakeContext(cuda, session(graph))

    strategies = SimpleNamespace(ON_PROFILE_CHANGE="on profile change")
    return SimpleNamespace(
        Logger=Logger, Runtime=Runtime, ExecutionContextAllocationStrategy=strategies
    )


@pytest.mark.parametrize(("color", "with_map"), [("RGB", False), ("BGR", True), ("gray", False)])
def test_its_answer_is_that_of_predict(
    program: Any,
    color: str,
    with_map: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = make(
        tmp_path / "graph",
        color=color,
        with_map=with_map,
        test=recipe.TestProtocol(scales=(24,)),
    )
    made = with_plan(tmp_path / "plan", color=color, with_map=with_map)
    images = []
    for name, size in {"a": (24, 37), "b": (41, 24)}.items():
        # Of little contrast, so that several classes are likely.
        pixels = photo(*size, 1 if color == "gray" else 3, seed=size[0]) // 8 + 100
        images.append(write_image(tmp_path / f"{name}.ppm", pixels))
        Image.open(images[-1]).save(tmp_path / f"{name}.png")
    cuda = FakeCuda()
    libraries = fake_tensorrt(cuda, made.path / MODEL), cuda
    monkeypatch.setattr(program, "load_libraries", lambda flavour: libraries)
    assert program.main([str(made.path), *map(str, images)]) == 0
    assert cuda.is_done
    assert not cuda.is_current
    others = [path.with_suffix(".png") for path in images]
    done = vggspec("predict", graph.path, *others, "--json", "--device", "cpu")
    expected = [
        line
        for path, answer in zip(images, json.loads(done.stdout), strict=True)
        for line in [
            str(path),
            *(f"  {top['posterior']:.4f}  {top['label']}" for top in answer["top"]),
        ]
    ]
    assert capsys.readouterr().out.splitlines() == expected


def test_what_fails_is_one_line(
    program: Any,
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def message(*args: object) -> str:
        assert program.main([str(arg) for arg in args]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        return str(line)

    cuda = FakeCuda()
    libraries = fake_tensorrt(cuda, made.path / MODEL), cuda
    monkeypatch.setattr(program, "load_libraries", lambda flavour: libraries)
    good = write_image(tmp_path / "good.ppm", photo(24, 30, 3))
    large = write_image(tmp_path / "large.ppm", photo(64, 64, 3))
    gray = write_image(tmp_path / "gray.pgm", photo(24, 30, 1))
    assert "2 × 64 × 64" in message(made.path, large)
    assert "takes RGB" in message(made.path, gray)
    assert "nowhere" in message(tmp_path / "nowhere", good)
    (made.path / MODEL).write_bytes(b"another plan")
    assert "refuses the plan" in message(made.path, good)
    assert not cuda.is_current

    def no_device(number: int) -> None:
        raise cuda.Error("no device")

    monkeypatch.setattr(cuda, "Device", no_device)
    assert message(made.path, good) == "error: CUDA failed: no device"
    assert program.main([]) == 2


@pytest.mark.parametrize(
    "call",
    [
        "set_optimization_profile_async",
        "set_input_shape",
        "infer_shapes",
        "set_tensor_address",
        "execute_async_v3",
    ],
)
def test_every_refusal_is_noticed(
    program: Any,
    made: Made,
    call: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cuda = FakeCuda()
    libraries = fake_tensorrt(cuda, made.path / MODEL), cuda
    monkeypatch.setattr(program, "load_libraries", lambda flavour: libraries)
    refusal = ["image"] if call == "infer_shapes" else False
    monkeypatch.setattr(FakeContext, call, lambda *args: refusal)
    image = write_image(tmp_path / "image.ppm", photo(24, 30, 3))
    assert program.main([str(made.path), str(image)]) == 1
    assert capsys.readouterr().out == ""


# The C++ program.


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler")
    return found


@pytest.fixture(scope="module")
def classify(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ program, linked with the stand-ins."""
    path = tmp_path_factory.mktemp("cpp") / "classify"
    command = [compiler, *STRICT, "-D_GLIBCXX_ASSERTIONS", "-I", STAND_INS, CPP, "-o", path]
    subprocess.run(command, check=True)
    return path


def test_it_compiles_against_the_real_headers(compiler: str) -> None:
    tensorrt = os.environ.get("TENSORRT_INCLUDE")
    cuda = os.environ.get("CUDA_INCLUDE", "/usr/local/cuda/include")
    if not tensorrt:
        pytest.skip("TENSORRT_INCLUDE does not name the headers of TensorRT")
    if not Path(cuda, "cuda_runtime_api.h").is_file():
        pytest.skip("CUDA_INCLUDE does not name the headers of CUDA")
    command = [compiler, *STRICT, "-Wpedantic", "-Wconversion", "-fsyntax-only"]
    command += ["-isystem", tensorrt, "-isystem", cuda, str(CPP)]
    subprocess.run(command, check=True)


def test_the_stand_ins_are_ours() -> None:
    """No header of NVIDIA's lies in the repository."""
    for path in STAND_INS.glob("*.h"):
        assert path.read_text("utf-8").startswith("// What docs/embedding/classify.cpp uses of ")


def write_plan(path: Path, classes: int, *profiles: Profile, is_raw: bool = False) -> Path:
    """A plan as the stand-in of TensorRT reads it."""
    words = [int(is_raw), classes, len(profiles)]
    for each in profiles:
        for number, rows, columns in (each.min, each.opt, each.max):
            words += [number, rows, columns, 3] if is_raw else [number, 3, rows, columns]
    path.write_text(" ".join(map(str, words)))
    return path


def run_cpp(classify: Path, *args: object) -> subprocess.CompletedProcess[str]:
    command = [classify, *(str(arg) for arg in args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sums(feed: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """What the stand-in of TensorRT answers: see its header."""
    each = feed[0].size
    flat = feed.reshape(len(feed), each).astype(np.float64)
    share = each / classes
    answers = [flat[:, k::classes].sum(axis=1) / share for k in range(classes)]
    return np.stack(answers, axis=1).mean(axis=0)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(
    ("contract", "color"), [("float", "RGB"), ("float", "BGR"), ("raw", "RGB")]
)
def test_it_feeds_what_the_manifest_asks_for(
    classify: Path, flip: bool, contract: Any, color: Any, tmp_path: Path
) -> None:
    pixels = photo(24, 37, 3)
    wants = InputContract(
        contract=contract,
        color=color,
        mean=(103.9, 116.8, 123.7),
        std=(58.0, 57.0, 56.5),
        scale=1.5,
        size=(16, 16),
        is_dynamic=True,
    )
    gain = [wants.scale / one for one in wants.std or ()]
    args = ["--mean", ",".join(map(repr, wants.mean)), "--gain", ",".join(map(repr, gain))]
    args += ["--bgr"] * (color == "BGR") + ["--flip"] * flip
    plan = write_plan(tmp_path / "plan", 5, *PROFILES, is_raw=contract == "raw")
    image = write_image(tmp_path / "image.ppm", pixels, "# a comment\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee, honey bee\ncat\ndog\neel\n")
    done = run_cpp(classify, plan, image, "--labels", labels, *args)
    assert done.returncode == 0, done.stderr
    images = np.stack([pixels, pixels[:, ::-1]]) if flip else pixels[np.newaxis]
    expected = sums(preprocess.normalise(images, wants), 5)
    found = [line.split("  ") for line in done.stdout.splitlines()]
    order = np.argsort(-expected, kind="stable")
    names = labels.read_text().splitlines()
    assert [label for _, label in found] == [names[i] for i in order]
    np.testing.assert_allclose([float(n) for n, _ in found], expected[order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("plan", "args", "words", "code"),
    [
        ("1 5 1", [], "refuses the plan", 1),
        (None, ["--mean", "1,2"], "as many numbers", 1),
        (None, ["--mean", "1,two,3"], "not a list of numbers", 1),
        (None, ["--mean"], "usage", 2),
        (None, ["--loud"], "usage", 2),
        (None, ["--flip"], "no profile", 1),
        (None, ["--labels", "/nowhere"], "/nowhere", 1),
    ],
    ids=["plan", "few", "text", "missing", "unknown", "profile", "labels"],
)
def test_its_failures_are_told(
    classify: Path, plan: str | None, args: list[str], words: str, code: int, tmp_path: Path
) -> None:
    one = Profile((1, 24, 24), (1, 24, 32), (1, 24, 48))
    path = write_plan(tmp_path / "plan", 5, one)
    if plan is not None:
        path.write_text(plan)
    image = write_image(tmp_path / "image.ppm", photo(24, 30, 3))
    done = run_cpp(classify, path, image, *args)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("call", CALLS)
def test_every_failure_of_a_call_is_noticed(
    classify: Path, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_plan(tmp_path / "plan", 5, *PROFILES)
    image = write_image(tmp_path / "image.ppm", photo(24, 30, 3))
    assert run_cpp(classify, plan, image).returncode == 0
    monkeypatch.setenv("FAIL", call)
    done = run_cpp(classify, plan, image)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


# The program for a bundle that holds the test protocol.


@pytest.mark.parametrize("color", ["RGB", "gray"])
def test_the_protocol_without_vggspec_is_that_of_predict(color: str, tmp_path: Path) -> None:
    """Of one net and of two, on real photographs, one of them turned by its EXIF."""
    from sklearn.datasets import load_sample_images

    labels = tuple(f"label {i}" for i in range(10))
    texts = [SMALL.replace("net small", f"net {name}") for name in ("one", "two")]
    if color == "gray":
        texts = [re.sub(r"RGB\(.*\)", "gray(mean 115, std 57)", text) for text in texts]
    specs, weights = [], []
    for seed, text in enumerate(texts):
        specs.append(tmp_path / f"{seed}.vgg")
        specs[-1].write_text(text)
        found = random_weights(net(text), tmp_path / "w", seed)
        weights.append(tmp_path / f"{seed}.safetensors")
        save(
            weights[-1], {each: found.read(each) for each in found.tensors}, Metadata(labels=labels)
        )
    paths = []
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        image = Image.fromarray(pixels)
        exif = image.getexif()
        exif[0x0112] = 6 if name == "flower" else 1  # lies on its side
        paths.append(tmp_path / f"{name}.jpg")
        image.save(paths[-1], exif=exif)
    bundles = [tmp_path / "net-0", tmp_path / "net-1"]
    for spec, file, bundle in zip(specs, weights, bundles, strict=True):
        assert vggspec("compile", spec, "--weights", file, "-o", bundle).returncode == 0
    for number in (1, 2):
        chosen = [word for file in weights[:number] for word in ("--weights", file)]
        done = vggspec(*("compile", *specs[:number], "--protocol", "-o", tmp_path / "b"), *chosen)
        assert done.returncode == 0, done.stderr
        answers = []
        for bundle in bundles[:number]:
            done = vggspec(
                *("predict", bundle, *paths, "--scales", "64,96,128", "--flip"),
                *("--json", "--top", "10", "--device", "cpu"),
            )
            answers.append(json.loads(done.stdout))
        done = without_vggspec(PROTOCOL, tmp_path / "b", "64,96,128", *paths)
        assert done.returncode == 0, done.stderr
        lines = iter(done.stdout.splitlines())
        for i, path in enumerate(paths):
            posteriors = dict.fromkeys(labels, 0.0)
            for answer in answers:
                for top in answer[i]["top"]:
                    posteriors[top["label"]] += top["posterior"] / number
            expected = sorted(posteriors, key=posteriors.__getitem__, reverse=True)[:5]
            assert next(lines) == str(path)
            rows = [next(lines).split(maxsplit=1) for _ in expected]
            assert [label for _, label in rows] == expected
            for posterior, label in rows:
                assert float(posterior) == pytest.approx(posteriors[label], abs=2e-4)
        assert next(lines, None) is None


def test_the_program_for_the_protocol_needs_no_more_than_it_says() -> None:
    libraries = imported(PROTOCOL) - set(sys.stdlib_module_names)
    assert libraries == {"numpy", "onnxruntime", "PIL"}


def without_vggspec(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program where vggspec, torch and onnx cannot be imported."""
    text = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(('vggspec', 'torch', 'onnx')));"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", text, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# The guide.


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of specs/digits.vgg, with random weights."""
    folder = tmp_path_factory.mktemp("digits")
    weights, bundle = folder / "digits.safetensors", folder / "digits"
    spec = ROOT / "specs" / "digits.vgg"
    assert vggspec("init", spec, "-o", weights).returncode == 0
    assert vggspec("compile", spec, "--weights", weights, "-o", bundle).returncode == 0
    return bundle


def test_the_few_lines_for_onnx_runtime_give_the_answer_of_predict(
    digits: Path, tmp_path: Path
) -> None:
    (text,) = [block for block in blocks("python") if "InferenceSession" in block]
    (tmp_path / "program.py").write_text(text)
    image = tmp_path / "photo.png"
    Image.fromarray(photo(60, 75, 3)).save(image)
    command = [sys.executable, tmp_path / "program.py", digits, image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()]
    predicted = vggspec("predict", digits, image, "--json", "--device", "cpu")
    expected = json.loads(predicted.stdout)[0]["top"]
    assert [int(index) for index, _ in found] == [top["index"] for top in expected]
    for (_, posterior), top in zip(found, expected, strict=True):
        assert float(posterior) == pytest.approx(top["posterior"], abs=1e-4)


def test_the_guide_shows_the_config_that_is_written(digits: Path) -> None:
    whole, more = blocks("protobuf")
    assert triton.config(open_bundle(digits).manifest) == whole
    assert more in (triton.config(engine()) or "")


def test_the_guide_writes_the_options_of_the_cpp_program(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("python") if "--gain" in block]
    make(tmp_path / "D", color="BGR")
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        *("--mean", "123.68,116.779,103.939", "--gain", "1.0,1.0,1.0", "--bgr", "--flip"),
    ]
