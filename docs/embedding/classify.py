"""Classify images with a TensorRT bundle, without vggspec.

    python classify.py BUNDLE IMAGE...

It needs numpy, pycuda, and the TensorRT that built the plan: the manifest says whether that is
`tensorrt` or `tensorrt_rtx`. An IMAGE is a binary PPM, or PGM for a net of gray images, already
rescaled: the accuracy depends on the filter that you use. If the test protocol of the bundle has
mirror images, the posteriors are the mean over the image and its mirror image.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np

NEWEST_FORMAT = 6  # of a manifest
PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx-cu13"}
MAGICS = {"5": 1, "6": 3}
NON_BLOCKING = 1  # on CUDA's default stream TensorRT would wait for the whole device
HEADER = re.compile(rb"P([56])\s+(?:#[^\n]*\s)*(\d+)\s+(\d+)\s+255\s")


class FailureError(Exception):
    """Something that the user can act on, in one line."""


def main(args: list[str]) -> int:
    """The exit code: 0 if every image was classified, else 1."""
    if len(args) < 2:
        print(f"usage: {Path(sys.argv[0]).name} BUNDLE IMAGE...", file=sys.stderr)
        return 2
    try:
        manifest = read_manifest(Path(args[0]))
        plan = read_plan(Path(args[0]), manifest)
        images = [prepare(read_image(Path(path)), manifest) for path in args[1:]]
        names = manifest["labels"] or range(manifest["outputs"][0]["channels"])
        trt, cuda = load_libraries(manifest["engine"]["flavour"])
        for path, answer in zip(args[1:], run(trt, cuda, plan, manifest, images), strict=True):
            print(path)
            for index in np.argsort(-answer, kind="stable")[:5]:
                print(f"  {answer[index]:.4f}  {names[index]}")
    except (OSError, FailureError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_manifest(bundle: Path) -> dict:
    """The manifest of a bundle with the plan of a net that classifies."""
    try:
        manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    except ValueError as error:
        raise FailureError(f"{bundle}/manifest.json is damaged: {error}") from error
    if manifest["format"] > NEWEST_FORMAT:
        raise FailureError(
            f"{bundle} has format {manifest['format']}, and this program knows 1 to {NEWEST_FORMAT}"
        )
    if manifest["engine"] is None:
        raise FailureError(f"{bundle} holds an ONNX graph, not a plan")
    if manifest["engine"]["is_stripped"]:
        raise FailureError(f"the plan of {bundle} has no weights")
    kind = manifest["outputs"][0]["kind"]
    if kind not in ("posteriors", "scores"):
        raise FailureError(f"the net of {bundle} gives {kind}, not classes")
    return manifest


def read_plan(bundle: Path, manifest: dict) -> bytes:
    """The plan, whose digest must be that of the manifest."""
    plan = (bundle / manifest["model"]).read_bytes()
    (entry,) = [entry for entry in manifest["files"] if entry["path"] == manifest["model"]]
    if hashlib.sha256(plan).hexdigest() != entry["sha256"]:
        raise FailureError(f"{manifest['model']} was changed: its SHA-256 is not the manifest's")
    return plan


def read_image(path: Path) -> np.ndarray:
    """The pixels of a binary PPM or PGM, `(H, W, C)`."""
    data = path.read_bytes()
    header = HEADER.match(data)
    if header is None:
        raise FailureError(f"{path} is not a binary PPM or PGM of 8 bits a channel")
    magic, width, height = header.groups()
    shape = (int(height), int(width), MAGICS[magic.decode()])
    if 0 in shape or len(data) - header.end() < np.prod(shape):
        raise FailureError(f"{path} ends before its last pixel")
    return np.frombuffer(data, np.uint8, int(np.prod(shape)), header.end()).reshape(shape)


def prepare(image: np.ndarray, manifest: dict) -> np.ndarray:
    """The net's input: an image, and its mirror image if the test protocol has one."""
    contract = manifest["input"]
    if image.shape[2] != len(contract["mean"]):
        raise FailureError(f"the net takes {contract['color']} images, and this one is not")
    images = np.stack([image, image[:, ::-1]]) if manifest["test"]["flip"] else image[np.newaxis]
    if choose_profile(manifest["engine"]["profiles"], images.shape[:3]) is None:
        number, rows, columns = images.shape[:3]
        raise FailureError(
            f"none of the plan's profiles holds {number} × {rows} × {columns}:"
            " the manifest lists them, smallest and largest images × rows × columns"
        )
    return normalise(images, contract)


def normalise(images: np.ndarray, contract: dict) -> np.ndarray:
    """The input that the manifest describes, from images `(N, H, W, C)`, RGB or gray."""
    if contract["contract"] == "raw":
        return np.ascontiguousarray(images)
    if contract["color"] == "BGR":
        images = images[..., ::-1]
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    mean = np.array(contract["mean"], np.float32)
    std = contract["std"] or [1.0] * len(mean)
    gain = np.array([contract["scale"] / one for one in std], np.float32)
    feed = (planes - mean.reshape(-1, 1, 1)) * gain.reshape(-1, 1, 1)
    return np.ascontiguousarray(feed)


def choose_profile(profiles: list[dict], shape: tuple[int, ...]) -> int | None:
    """The profile for (images, rows, columns): of those that contain it the nearest by `opt`."""
    distances = {
        index: sum(abs(opt - n) / opt for opt, n in zip(profile["opt"], shape, strict=True))
        for index, profile in enumerate(profiles)
        if np.all(np.less_equal(profile["min"], shape))
        and np.all(np.less_equal(shape, profile["max"]))
    }
    return min(distances, key=distances.__getitem__, default=None)


def load_libraries(flavour: str) -> tuple:
    """TensorRT of the plan's flavour, and CUDA."""
    try:
        if flavour == "tensorrt_rtx":
            import tensorrt_rtx as trt
        else:
            import tensorrt as trt
        import pycuda.driver as cuda
    except ImportError as error:
        install = f"pip install {PACKAGES[flavour]} pycuda"
        raise FailureError(f"{error.name or error} is missing: {install}") from error
    return trt, cuda


def run(trt, cuda, plan: bytes, manifest: dict, feeds: list[np.ndarray]) -> list[np.ndarray]:
    """The net's answer to each batch, `(classes,)`: the mean over the batch."""
    try:
        cuda.init()
        device = cuda.Device(0).retain_primary_context()
        device.push()
        try:
            return apply(trt, cuda, plan, manifest, feeds)
        finally:
            device.pop()
    except cuda.Error as error:
        raise FailureError(f"CUDA failed: {error}") from error


def apply(trt, cuda, plan: bytes, manifest: dict, feeds: list[np.ndarray]) -> list[np.ndarray]:
    """As `run`, on the device that is current; all that is allocated is freed on return."""
    built = manifest["engine"]
    logger = trt.Logger(trt.Logger.WARNING)
    engine_runtime = trt.Runtime(logger)
    if built["is_version_compatible"]:
        engine_runtime.engine_host_code_allowed = True  # the plan contains its own runtime
    plan_engine = engine_runtime.deserialize_cuda_engine(plan)
    if plan_engine is None:
        raise FailureError(
            f"this TensorRT refuses the plan: {built['version']} built it on {built['platform']}"
            f" for compute capability {', '.join(built['capabilities'])}"
        )
    # Memory for the current profile; the default is that of the largest one.
    strategy = trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
    context = plan_engine.create_execution_context(strategy)
    if context is None:
        raise FailureError("TensorRT makes no execution context: the GPU's memory may be full")
    stream = cuda.Stream(NON_BLOCKING)
    return [infer(cuda, context, stream, manifest, feed) for feed in feeds]


def infer(cuda, context, stream, manifest: dict, feed: np.ndarray) -> np.ndarray:
    """Run one batch and average over it."""
    is_raw = manifest["input"]["contract"] == "raw"
    shape = feed.shape[:3] if is_raw else (len(feed), *feed.shape[2:])
    profile = choose_profile(manifest["engine"]["profiles"], shape)
    name, result = manifest["input"]["name"], manifest["outputs"][0]["name"]
    if not context.set_optimization_profile_async(profile, stream.handle):
        raise FailureError(f"the plan has no profile {profile}, which the manifest names")
    stream.synchronize()
    if not context.set_input_shape(name, feed.shape):
        raise FailureError(f"the plan does not take `{name}` of shape {feed.shape}")
    if context.infer_shapes():
        raise FailureError("the plan has inputs that the manifest does not name")
    memory = {name: cuda.mem_alloc(feed.nbytes)}
    for output in manifest["outputs"]:
        size = int(np.prod(tuple(context.get_tensor_shape(output["name"]))))
        memory[output["name"]] = cuda.mem_alloc(size * np.float32().nbytes)
    for tensor, address in memory.items():
        if not context.set_tensor_address(tensor, int(address)):
            raise FailureError(f"the plan has no tensor `{tensor}`")
    answer = cuda.pagelocked_empty(tuple(context.get_tensor_shape(result)), np.float32)
    cuda.memcpy_htod_async(memory[name], feed, stream)
    if not context.execute_async_v3(stream.handle):
        raise FailureError("TensorRT could not start the plan")
    cuda.memcpy_dtoh_async(answer, memory[result], stream)
    stream.synchronize()
    if not np.isfinite(answer).all():
        raise FailureError("the plan's answer is not finite")
    return answer.astype(np.float64).mean(axis=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
