"""The page and the program in JavaScript of docs/embedding.md do what vggspec does.

What they share is run wherever there is Node.js. ``VGGSPEC_NODE_MODULES`` names a folder of npm
packages: with onnxruntime-node and sharp in it the program is run, with onnxruntime-web and
playwright-core, and Chromium on the path, the page. Nothing is downloaded.
"""

import base64
import functools
import io
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import vggspec
from tests.conftest import ROOT
from tests.nets import SMALL, net, random_weights
from tests.runtime.bundles import CLASSES, make, rewrite
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.manifest import MANIFEST, MODEL, InputContract
from vggspec.cli import run
from vggspec.data.read import read_image
from vggspec.runtime import preprocess
from vggspec.runtime.predictor import softmax
from vggspec.runtime.protocol import Answer, View, classify, grid
from vggspec.studies.heatmap import draw, evidence, ramp

DOCS = ROOT / "docs" / "embedding"
DRIVERS = ROOT / "tests" / "embedding"
SHARED, PROGRAM, PAGE = (DOCS / name for name in ("vggspec.mjs", "classify.mjs", "classify.html"))
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
Case = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node.js")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"Node.js {version.stdout.strip()} is older than 20")
    return found


def packages(*names: str) -> Path:
    """The folder of npm packages, if these are in it."""
    folder = os.environ.get("VGGSPEC_NODE_MODULES")
    if not folder:
        pytest.skip("VGGSPEC_NODE_MODULES names no folder of npm packages")
    missing = [name for name in names if not Path(folder, name).is_dir()]
    if missing:
        pytest.skip(f"not in VGGSPEC_NODE_MODULES: {', '.join(missing)}")
    return Path(folder).resolve()


def coded(array: NDArray[Any]) -> dict[str, Any]:
    text = base64.b64encode(array.tobytes()).decode()
    return {"type": str(array.dtype), "shape": array.shape, "base64": text}


def decoded(data: dict[str, Any]) -> NDArray[Any]:
    array = np.frombuffer(base64.b64decode(data["base64"]), data["type"])
    return array.reshape(data["shape"])


def call(node: str, *cases: Case, runtime: Path | None = None) -> list[Any]:
    """What the shared module answers, or a ``BundleError`` as ``{"error": …}``."""
    command = [node, DRIVERS / "shared.mjs", SHARED, *([] if runtime is None else [runtime])]
    done = subprocess.run(
        command, input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return [each.get("value", each) for each in answers]


def photo(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# What the page and the program share.


def test_pixels_are_those_of_pillow(node: str) -> None:
    pixels = photo(64, 81, 4)
    rgb, gray = call(
        node, *(("pictureOf", {"pixels": coded(pixels), "color": c}) for c in ("RGB", "gray"))
    )
    np.testing.assert_array_equal(decoded(rgb), pixels[..., :3])
    expected = Image.fromarray(pixels[..., :3].copy()).convert("L")
    np.testing.assert_array_equal(decoded(gray)[..., 0], np.asarray(expected))


def test_pictures_are_rescaled_to_the_byte(node: str) -> None:
    rng = np.random.default_rng(1)
    cases: list[Case] = []
    expected = []
    for number in range(60):
        rows, columns, scale = rng.integers(1, 90, 3).tolist()
        image = photo(rows, columns, 1 + 2 * (number % 2), seed=number)
        # torchvision leaves the order to Pillow, which narrows wide pictures first.
        resize = "torchvision" if number % 3 == 0 and columns >= rows else "rounded"
        cases.append(("rescale", {"image": coded(image), "scale": scale, "resize": resize}))
        expected.append(preprocess.rescale(image, scale, resize))  # type: ignore[arg-type]
    for found, wanted in zip(call(node, *cases), expected, strict=True):
        np.testing.assert_array_equal(decoded(found), wanted)


def test_floats_are_those_of_the_runtime(node: str) -> None:
    rng = np.random.default_rng(2)
    cases: list[Case] = []
    expected = []
    for contract in ("float", "raw"):
        for color in ("RGB", "BGR", "gray"):
            for std in (None, rng.uniform(1, 99, 3)):
                channels = 1 if color == "gray" else 3
                wants = InputContract(
                    contract=contract,  # type: ignore[arg-type]
                    color=color,  # type: ignore[arg-type]
                    mean=tuple(rng.uniform(0, 255, 3).tolist()[:channels]),
                    std=None if std is None else tuple(std.tolist()[:channels]),
                    scale=rng.uniform(0.1, 2),
                    size=(4, 5),
                    is_dynamic=True,
                )
                image = photo(6, 7, channels)
                cases.append(("normalise", {"image": coded(image), "input": asdict(wants)}))
                expected.append(preprocess.normalise(image[np.newaxis], wants))
    for found, wanted in zip(call(node, *cases), expected, strict=True):
        assert found["type"] == str(wanted.dtype)
        np.testing.assert_array_equal(decoded(found), wanted)


def test_windows_begin_where_those_of_the_runtime_do(node: str) -> None:
    asked = [
        {"length": length, "window": 16, "number": number, "resize": resize}
        for length in range(16, 29)
        for number in (1, 2, 5)
        for resize in ("rounded", "torchvision")
    ]
    found = call(node, *(("grid", one) for one in asked))
    assert found == [grid(**one) for one in asked]


def test_the_colours_are_those_of_the_library(node: str) -> None:
    (found,) = call(node, ("ramp", {}))
    np.testing.assert_array_equal(found, ramp())


def sampled(feed: NDArray[np.uint8], mean: float) -> Answer:
    """The net ``sampled`` of ``shared.mjs``, of images ``(N, H, W, C)``."""
    number, rows, columns, channels = feed.shape
    size = (rows - 16) // 4 + 1, (columns - 16) // 4 + 1
    scores = np.zeros((number, CLASSES, *size))
    for k in range(CLASSES):
        places = np.ix_(
            range(number),
            [4 * i + 3 * k for i in range(size[0])],
            [4 * j + 2 * k + 1 for j in range(size[1])],
            range(channels),
        )
        scores[:, k] = ((feed[places] - mean) / 50).mean(axis=-1)
    return Answer(softmax(scores.mean(axis=(2, 3))), softmax(scores))


PROTOCOLS = [
    TestProtocol(scales=(24,)),
    TestProtocol(scales=(24,), flip=False),
    TestProtocol(scales=(21, 30), flip=True),
    TestProtocol(scales=(22,), dense=False, crops=3),
    TestProtocol(scales=(23, 31), dense=True, crops=2, flip=False),
    TestProtocol(scales=(23,), dense=False, crops=1, resize="torchvision"),
]


@pytest.mark.parametrize("is_dynamic", [True, False], ids=["dense", "crop"])
def test_the_protocol_and_the_map_are_those_of_the_library(
    node: str, is_dynamic: bool, tmp_path: Path
) -> None:
    made = make(tmp_path / "b", is_dynamic=is_dynamic)
    rewrite(made.path, {"input.mean": [99.0] * 3, "input.std": [50.0] * 3})
    manifest = (made.path / MANIFEST).read_text("utf-8")
    view = View(least=(16, 16), is_dynamic=is_dynamic, window=(16, 16), stride=(4, 4))
    cases: list[Case] = []
    expected = []
    for number, protocol in enumerate(PROTOCOLS):
        image = photo(40, 57, 3, seed=number)
        heat = {"index": number % CLASSES, "size": (70, 90)}
        case = {"manifest": manifest, "image": coded(image), "test": asdict(protocol), "heat": heat}
        cases.append(("classify", case))
        expected.append(classify(lambda each: sampled(each, 99.0), image, view, protocol))
    for number, (found, (posteriors, maps)) in enumerate(
        zip(call(node, *cases), expected, strict=True)
    ):
        np.testing.assert_allclose(found["posteriors"], posteriors, atol=1e-6)
        assert bool(maps) == bool(decoded(found["heat"]).size)
        if maps:
            heat = evidence(maps, number % CLASSES, (70, 90))
            np.testing.assert_allclose(decoded(found["heat"]), heat, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 7}, "format 7"),
        ({"engine": {"flavour": "tensorrt"}}, "without --trt"),
        ({"outputs.0.kind": "boxes"}, "boxes"),
        ({"outputs.0.kind": "distance"}, "distance of two pictures"),
        ({"outputs.0.kind": "activations"}, "activations"),
        ({"outputs": []}, "not that of a bundle"),
        ({"files.0.path": "../model.onnx"}, "outside"),
        ({"files.0.path": "https://example.org/model.onnx"}, "outside"),
        ({"files": []}, "the file of its model"),
    ],
)
def test_other_bundles_are_refused(
    node: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    made = make(tmp_path / "b")
    text = (made.path / MANIFEST).read_text("utf-8")
    rewrite(made.path, change)
    changed = (made.path / MANIFEST).read_text("utf-8")
    good, bad, broken = call(
        node, *(("parseManifest", {"text": each}) for each in (text, changed, text[:99]))
    )
    assert good == [MODEL]
    assert words in bad["error"]
    assert "not JSON" in broken["error"]


def test_what_does_not_fit_is_refused(node: str, tmp_path: Path) -> None:
    made = make(tmp_path / "b")
    sizes = {"period": 4, "remainders": [0, 1]}
    rewrite(made.path, {"input.sizes": {"rows": sizes, "columns": sizes}})
    manifest = (made.path / MANIFEST).read_text("utf-8")
    data = (made.path / MODEL).read_bytes()
    entry = asdict(made.manifest.files[0])
    asked: list[Case] = [
        ("classify", {"manifest": manifest, "image": coded(photo(*size, 3)), "test": test})
        for size, scale in (((24, 29), 24), ((24, 30), 24), ((30, 90), 15), ((1, 4000), 4000))
        for test in [asdict(TestProtocol(scales=(scale,)))]
    ]
    asked += [("checkFile", {"entry": entry, "content": coded(np.frombuffer(each, np.uint8))})
              for each in (data, data[:-1], data[:-1] + b"\0")]  # fmt: skip
    asked += [("scalesOf", {"text": text}) for text in ("256, 384", "256;384", "", "0", "2.5")]
    found = call(node, *asked)
    assert sum(found[0]["posteriors"]) == pytest.approx(1)
    assert "branches do not meet" in found[1]["error"]
    assert "fewer than the 16 × 16" in found[2]["error"]
    assert "smaller Q" in found[3]["error"]
    assert found[4] is None
    assert all("copy the whole bundle" in each["error"] for each in found[5:7])
    assert found[7] == [256, 384]
    assert all("are no scales" in each["error"] for each in found[8:])


# Bundles in ONNX Runtime.


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A small net compiled with these flags, once for all tests."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "small.vgg").write_text(SMALL)
    weights = random_weights(net(SMALL), folder / "small.safetensors").path

    @functools.cache
    def compile_with(*flags: str) -> Path:
        bundle = folder / "-".join(("b", *flags))
        command = ["compile", folder / "small.vgg", "--weights", weights, *flags, "-o", bundle]
        assert run([str(word) for word in command]) == 0
        return bundle

    return compile_with


FLAGS = [
    ("--map",),
    ("--single-file", "--input", "raw"),
    ("--crop",),
    ("--protocol",),
    ("--protocol", "--single-file"),
    ("--precision", "fp16", "--map"),
]


def test_node_gives_posteriors_and_maps_of_predict(
    node: str, compiled: Callable[..., Path]
) -> None:
    runtime = packages("onnxruntime-node") / "onnxruntime-node" / "dist" / "index.js"
    image = photo(50, 71, 3)
    cases: list[Case] = []
    predictions = []
    for flags in FLAGS:
        bundle = compiled(*flags)
        with vggspec.load(bundle, device="cpu") as predictor:
            test = replace(predictor.manifest.test, scales=(40, 48))
            predictions.append(predictor(image, scales=test.scales))
        heat = {"index": 3, "size": (99, 140)}
        given = {"bundle": str(bundle), "image": coded(image), "test": asdict(test), "heat": heat}
        cases.append(("classify", given))
    answers = call(node, *cases, runtime=runtime)
    for found, expected in zip(answers, predictions, strict=True):
        np.testing.assert_allclose(found["posteriors"], expected.posteriors, atol=1e-4)
        assert bool(decoded(found["heat"]).size) == bool(expected.maps)
        if expected.maps:
            heat = evidence(expected.maps, 3, (99, 140))
            np.testing.assert_allclose(decoded(found["heat"]), heat, atol=1e-3)
    assert sum(bool(expected.maps) for expected in predictions) == 2


def in_folder(folder: Path, packages: Path, *files: Path) -> Path:
    """Copies of programs beside the packages that they import."""
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(packages)
    return folder


def test_the_program_prints_the_answer_of_predict(
    node: str, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    folder = in_folder(tmp_path / "p", packages("onnxruntime-node", "sharp"), SHARED, PROGRAM)
    picture = tmp_path / "photo.png"
    pixels = photo(45, 60, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(pixels).save(picture, exif=exif)
    bundle = compiled("--map")
    command = [node, folder / "classify.mjs", bundle, "--scales", "36,40", picture]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with vggspec.load(bundle, device="cpu") as predictor:
        expected = predictor(picture, scales=(36, 40)).top(5)
    first, *rows = done.stdout.splitlines()
    assert first == str(picture)
    for row, (label, posterior) in zip(rows, expected, strict=True):
        value, _, name = row.strip().partition("  ")
        assert name == label
        assert float(value) == pytest.approx(posterior, abs=1e-3)  # alpha is rounded differently
    for arguments, words in {
        (): "usage: ",
        (tmp_path, picture): "manifest.json",
        (bundle, tmp_path / "none.png"): "none.png",
        (bundle, "--scales", "20", picture): "take a larger Q",
    }.items():
        command = [node, folder / "classify.mjs", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert re.fullmatch(f"error: .*{words}.*\n", done.stderr)


@pytest.fixture
def site(compiled: Callable[..., Path], tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server with the page, bundles and ONNX Runtime; and the driver."""
    modules = packages("onnxruntime-web", "playwright-core")
    driver = in_folder(tmp_path / "driver", modules, DRIVERS / "page.mjs") / "page.mjs"
    root = tmp_path / "site"
    (root / "ort").mkdir(parents=True)
    for name in RUNTIME:
        shutil.copy(modules / "onnxruntime-web" / "dist" / name, root / "ort")
    for file in (PAGE, SHARED):
        shutil.copy(file, root)
    shutil.copytree(compiled("--map"), root / "D")
    shutil.copytree(compiled("--protocol"), root / "P")
    shutil.copytree(root / "D", root / "boxes")
    rewrite(root / "boxes", {"outputs.0.kind": "boxes"})

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/{PAGE.name}", driver
        server.shutdown()
        thread.join()


def test_the_page_shows_the_answer_and_the_map_of_predict(
    node: str, site: tuple[str, Path], compiled: Callable[..., Path], tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium")
    address, driver = site
    picture = tmp_path / "photo.png"
    # Large enough that page and library draw each of its pixels as it is.
    pixels = np.kron(photo(15, 20, 3), np.ones((60, 60, 1), np.uint8))
    Image.fromarray(pixels).save(picture)

    bundles = {"D:class 3": ("--map",), "P": ("--protocol",)}
    command = [node, driver, chromium, address, picture, *bundles, "boxes", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    *shown, boxes, none = json.loads(done.stdout)
    assert "boxes of objects" in boxes["error"]
    assert "/none/manifest.json cannot be fetched: 404" in none["error"]
    for found, flags in zip(shown, bundles.values(), strict=True):
        assert found["error"] == ""
        assert "10 classes" in found["about"]
        assert found["hasLegend"] == ("--map" in flags)
        with vggspec.load(compiled(*flags), device="cpu") as predictor:
            prediction = predictor(picture)
        for (name, text), (label, posterior) in zip(found["rows"], prediction.top(5), strict=True):
            assert name == label
            assert float(text.rstrip("%")) / 100 == pytest.approx(posterior, abs=2e-4)
        drawn = Image.open(io.BytesIO(base64.b64decode(found["drawn"].partition(",")[2])))
        expected = read_image(picture)
        if prediction.maps:
            image = draw(expected, prediction, label=3)
            margin = (image.width - drawn.width) // 2
            box = (margin, margin, margin + drawn.width, margin + drawn.height)
            expected = np.asarray(image.crop(box))
        off = np.abs(np.asarray(drawn.convert("RGB")).astype(int) - expected)
        assert off.max() <= 4
