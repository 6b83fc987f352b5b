"""Whether a bundle runs on a machine, and why not: from the manifest, before anything is loaded.

A plan that does not fit fails inside TensorRT with a message that does not name the remedy. The
conditions are known beforehand:

- TensorRT-RTX: the exact release, and a compute capability that the plan was built for. The
  same plan runs on Linux and Windows.
- TensorRT: the platform, the version (a later one if the plan is version-compatible), and the GPU
  (a family of GPUs if the plan is hardware-compatible).

Source: the TensorRT 11 and TensorRT-RTX 1 developer guides, "Version Compatibility" and "Hardware
Compatibility".
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vggspec.bundle.engine import RTX_CAPABILITIES, RTX_DEFAULT, Engine, Flavour
from vggspec.bundle.manifest import FACTORS, WEIGHTS, Manifest
from vggspec.bundle.options import CompileOptions, flags
from vggspec.runtime.fastest_engine import fastest, recall
from vggspec.runtime.machine import Gpu, Machine
from vggspec.runtime.tensorrt.library import FLAVOURS

Level = Literal["ok", "unknown", "problem"]

#: The compute capability of Ampere, where hardware compatibility starts.
AMPERE = (8, 0)

#: The first compute capability with arithmetic in bf16.
BF16_SINCE = (8, 0)

#: ONNX opset to the first ONNX Runtime that supports it.
#: Source: https://onnxruntime.ai/docs/reference/compatibility.html
ORT_SINCE = {17: (1, 12), 18: (1, 14), 19: (1, 15), 20: (1, 17), 21: (1, 18)}


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a machine meets one requirement of a bundle."""

    level: Level
    subject: str
    """One or two words: ``version``, ``GPU``."""

    text: str


def fits(findings: tuple[Finding, ...]) -> bool:
    """Whether no finding is a problem; an unknown one is none."""
    return all(finding.level != "problem" for finding in findings)


def compare(engine: Engine, machine: Machine) -> tuple[Finding, ...]:
    """Whether a machine meets the requirements of an engine, one finding each.

    ``compare_bundle`` adds the requirements of the bundle's number types.
    """
    return (
        _platform(engine, machine),
        _version(engine, machine),
        *_driver(engine, machine),
        *_gpu(engine, machine),
        _pycuda(machine),
        *_weights(engine),
    )


def compare_bundle(manifest: Manifest, machine: Machine) -> tuple[Finding, ...]:
    """Whether a machine meets the requirements of a bundle: an engine, or a graph."""
    if manifest.engine is not None:
        return (*compare(manifest.engine, machine), *_bf16(manifest, machine))
    return tuple(_graph(manifest, machine))


# An engine's requirements.


def _platform(engine: Engine, machine: Machine) -> Finding:
    here, there = machine.platform, engine.platform
    if here == there:
        return Finding("ok", "platform", f"{here}, the platform it was built on")
    _, _, ours = here.partition("-")
    _, _, theirs = there.partition("-")
    if engine.flavour == "tensorrt":
        why = "a plan of TensorRT runs on the platform it was built on"
        return Finding("problem", "platform", f"built on {there}; this is {here}, and {why}")
    systems = {here.partition("-")[0], there.partition("-")[0]}
    if ours == theirs and systems == {"linux", "windows"}:
        why = "a plan of TensorRT-RTX runs on Linux and Windows"
        return Finding("ok", "platform", f"built on {there}; this is {here}: {why}")
    why = "a plan of TensorRT-RTX is known to run on Linux and Windows of one architecture"
    return Finding("unknown", "platform", f"built on {there}; this is {here}, and {why}")


def _version(engine: Engine, machine: Machine) -> Finding:
    title = FLAVOURS[engine.flavour].title
    install = f'pip install "{_pinned(engine)}"'
    library = machine.trt(engine.flavour)
    built = f"built by {title} {engine.version}"
    if library is None:
        text = f"{built}, which is not installed: {install}"
        other = machine.trt(_other(engine.flavour))
        if other is not None:
            text += f" ({FLAVOURS[_other(engine.flavour)].title} {other.version} cannot load it)"
        return Finding("problem", "version", text)
    if library.version == engine.version:
        return Finding("ok", "version", f"{title} {library.version}, the one that built it")
    here = f"{built}; {library.version} is installed"
    if engine.flavour == "tensorrt_rtx":
        why = "and a plan of TensorRT-RTX runs only on the release that built it"
        return Finding("problem", "version", f"{here}, {why}: {install}")
    if not engine.is_version_compatible:
        why = "and the plan is not version-compatible"
        return Finding("problem", "version", f"{here}, {why}: {install}")
    return _later(here, _numbers(engine.version), _numbers(library.version))


def _other(flavour: Flavour) -> Flavour:
    return "tensorrt" if flavour == "tensorrt_rtx" else "tensorrt_rtx"


def _later(here: str, built: tuple[int, ...], found: tuple[int, ...]) -> Finding:
    """A version-compatible plan runs on later versions of the same major version, and one of 10
    on 11.
    """
    if not built or not found:
        return Finding("unknown", "version", f"{here}; which one is later is unknown")
    if found[:2] < built[:2]:
        why = "and a version-compatible plan does not run on earlier versions"
        return Finding("problem", "version", f"{here}, {why}")
    if found[0] == built[0] or (built[0], found[0]) == (10, 11):
        return Finding("ok", "version", f"{here}: later, and the plan is version-compatible")
    why = f"and plans of major version {built[0]} are not known to run on {found[0]}"
    return Finding("problem", "version", f"{here}, {why}")


def _pinned(engine: Engine) -> str:
    """The requirement for pip."""
    name = engine.flavour.replace("_", "-")
    suffix = f"-cu{engine.cuda}" if engine.cuda else ""
    return f"{name}{suffix}=={engine.version}"


def _driver(engine: Engine, machine: Machine) -> Iterator[Finding]:
    if machine.driver is None:
        yield Finding("problem", "driver", "this machine has no NVIDIA driver")
        return
    cuda = machine.driver.cuda
    if machine.driver.trouble is not None:
        yield Finding("problem", "driver", f"it reports no GPU: {machine.driver.trouble}")
    library = machine.trt(engine.flavour)
    if library is None or library.cuda is None:
        yield Finding(
            "unknown", "driver", f"supports CUDA up to {cuda}; the library's CUDA is unknown"
        )
        return
    required = f"the library was built with CUDA {library.cuda}"
    if _numbers(cuda)[:1] < _numbers(library.cuda)[:1]:
        yield Finding(
            "problem",
            "driver",
            f"supports CUDA up to {cuda}; {required}: install a newer driver",
        )
    else:
        yield Finding("ok", "driver", f"supports CUDA up to {cuda}; {required}")
    if engine.cuda is not None and engine.cuda != library.cuda:
        yield Finding(
            "unknown", "CUDA", f"built with CUDA {engine.cuda}; {required}, which is untested"
        )


def _gpu(engine: Engine, machine: Machine) -> Iterator[Finding]:
    if not machine.gpus:
        yield Finding("problem", "GPU", f"it runs on {_served(engine)}; this machine has no GPU")
        return
    judge = _gpu_of_rtx if engine.flavour == "tensorrt_rtx" else _gpu_of_classic
    found = [judge(engine, gpu) for gpu in machine.gpus]
    first = found[0]
    better = next((i for i, each in enumerate(found) if each.level == "ok"), None)
    if first.level != "ok" and better is not None:
        # A session takes CUDA's first GPU.
        advice = f"; it runs on GPU {better}: set CUDA_VISIBLE_DEVICES={better}"
        first = Finding(first.level, first.subject, first.text + advice)
    yield first


def _served(engine: Engine) -> str:
    """The GPUs that an engine is for, in words."""
    if engine.flavour == "tensorrt_rtx":
        return f"compute capability {capabilities(engine)}"
    if engine.hardware == "ampere_plus":
        return "compute capability 8.0 and later"
    if engine.hardware == "same_compute_capability" or engine.gpu is None:
        return f"compute capability {capabilities(engine)}"
    return engine.gpu


def capabilities(engine: Engine) -> str:
    """``8.0, 8.6, 8.9, 12.0 and later``."""
    return ", ".join(engine.capabilities) + (" and later" if engine.is_open_ended else "")


def _gpu_of_rtx(engine: Engine, gpu: Gpu) -> Finding:
    if not rtx_supports(gpu):
        why = f"TensorRT-RTX does not run on compute capability {gpu.capability}"
        return Finding("problem", "GPU", f"{gpu}: {why}; build it with `--trt-flavor tensorrt`")
    named = sorted(_numbers(each) for each in engine.capabilities)
    here = _numbers(gpu.capability)
    built = f"it was built for compute capability {capabilities(engine)}"
    if here in named:
        return Finding("ok", "GPU", f"{gpu}: {built}")
    if named and engine.is_open_ended and here > named[-1]:
        return Finding("ok", "GPU", f"{gpu}: {built}, and this is a later one")
    return Finding("problem", "GPU", f"{gpu}: {built}; {gpu.capability} is not among them")


def rtx_supports(gpu: Gpu) -> bool:
    """Whether TensorRT-RTX runs on a GPU: of a compute capability that it names, or of one later
    than the last of these. It refuses all others, such as 9.0 and 10.0, when it loads a plan.
    """
    last = max(map(_numbers, RTX_CAPABILITIES))
    return gpu.capability in RTX_CAPABILITIES or _numbers(gpu.capability) > last


def _gpu_of_classic(engine: Engine, gpu: Gpu) -> Finding:
    here = _numbers(gpu.capability)
    on = f"built on {engine.gpu or 'a GPU'} ({capabilities(engine)})"
    is_same = gpu.capability in engine.capabilities
    if engine.hardware == "ampere_plus":
        if here >= AMPERE:
            return Finding("ok", "GPU", f"{gpu}: {on} for Ampere and later")
        return Finding("problem", "GPU", f"{gpu}: {on} for Ampere and later; this one is earlier")
    if not is_same:
        why = "and a plan of TensorRT runs on one compute capability"
        return Finding("problem", "GPU", f"{on}; this is {gpu}, {why}")
    if engine.hardware == "same_compute_capability":
        return Finding("ok", "GPU", f"{gpu}: {on} for every GPU of this compute capability")
    if gpu.name == engine.gpu:
        return Finding("ok", "GPU", f"{gpu}, the model it was built on")
    why = "of the same compute capability: TensorRT warns that the plan may be slow or fail"
    return Finding("unknown", "GPU", f"{on}; this is {gpu}, another model {why}")


def _pycuda(machine: Machine) -> Finding:
    if machine.has_pycuda:
        return Finding("ok", "pycuda", "installed")
    return Finding("problem", "pycuda", 'not installed: pip install "vggspec[cuda]"')


def _weights(engine: Engine) -> Iterator[Finding]:
    if engine.is_stripped:
        text = "the plan was stripped of them: add them with `vggspec refit`"
        yield Finding("problem", "weights", text)


def _bf16(manifest: Manifest, machine: Machine) -> Iterator[Finding]:
    if manifest.precision != "bf16" or not machine.gpus:
        return
    gpu = machine.gpus[0]
    if _numbers(gpu.capability) < BF16_SINCE:
        text = f"bf16 requires compute capability 8.0; this is {gpu}"
        yield Finding("problem", "precision", text)


# The requirements of a graph for ONNX Runtime.


def _graph(manifest: Manifest, machine: Machine) -> Iterator[Finding]:
    library = machine.onnxruntime
    if library is None:
        yield Finding("problem", "version", "ONNX Runtime is not installed: pip install vggspec")
        return
    opset = manifest.tools.get("opset", "")
    since = ORT_SINCE.get(int(opset)) if opset.isdecimal() else None
    title = f"ONNX Runtime {library.version}"
    if since is None:
        what = f"opset {opset}" if opset else "an opset that the manifest does not name"
        yield Finding("unknown", "version", f"{title}; the graph uses {what}")
    elif _numbers(library.version)[:2] < since:
        why = f"opset {opset} requires {_dotted(since)} or later"
        yield Finding("problem", "version", f"{title}; the graph's {why}")
    else:
        yield Finding("ok", "version", f"{title} supports opset {opset}")
    yield _provider(machine)
    yield _openvino(manifest, machine)
    yield from _number_type(manifest, machine)


def _provider(machine: Machine) -> Finding:
    if not machine.gpus:
        trouble = machine.driver.trouble if machine.driver else None
        why = f" ({trouble})" if trouble else ""
        return Finding("ok", "device", f"it runs on the CPU; this machine has no GPU{why}")
    gpu = machine.gpus[0]
    if machine.has_cuda_provider:
        return Finding("ok", "device", f"it runs on the CPU and on {gpu}")
    why = f"this onnxruntime cannot use {gpu}: pip install onnxruntime-gpu"
    return Finding("ok", "device", f"it runs on the CPU; {why}")


def _openvino(manifest: Manifest, machine: Machine) -> Finding:
    if machine.openvino is None:
        text = 'OpenVINO is not installed, and not required: pip install "vggspec[openvino]"'
        return Finding("ok", "OpenVINO", text)
    title = f"OpenVINO {machine.openvino.version} runs it with `--device openvino`"
    seconds = recall(manifest)
    if seconds is None:
        return Finding("ok", "OpenVINO", f"{title}; its speed was not measured here")
    times = f"{seconds['openvino'] * 1e3:.3g} ms to {seconds['cpu'] * 1e3:.3g} ms of ONNX Runtime"
    is_chosen = fastest(manifest) == "openvino"
    choice = "`auto` takes it on the CPU" if is_chosen else "`auto` takes ONNX Runtime"
    return Finding("ok", "OpenVINO", f"{title}; measured here: {times}, so {choice}")


def _number_type(manifest: Manifest, machine: Machine) -> Iterator[Finding]:
    is_on_gpu = bool(machine.gpus) and machine.has_cuda_provider
    if manifest.precision == "fp32" or (is_on_gpu and manifest.precision != "bf16"):
        return
    if manifest.precision == "fp16":
        text = "fp16 is computed in fp32 on a CPU: no faster than an fp32 bundle"
        yield Finding("ok", "precision", text)
    elif manifest.precision == "int8":
        text = "ONNX Runtime computes int8 on a CPU: fastest with VNNI or AMX"
        yield Finding("ok", "precision", text)
    else:
        if machine.openvino is not None and machine.has_bf16:
            text = "OpenVINO computes it in bf16 on this processor, ONNX Runtime in fp32"
        else:
            lacks = "this processor has no bf16" if not machine.has_bf16 else "OpenVINO is missing"
            text = f"it is computed in fp32 here, as {lacks}: no faster than an fp32 bundle"
        yield Finding("ok", "precision", text)


# Rebuilding.


def compile_command(
    manifest: Manifest, *, bundle: str, machine: Machine | None = None
) -> tuple[str, ...]:
    """The command lines that rebuild a bundle, from its manifest; none for several nets in one
    graph.

    The first extracts the spec from the bundle, the second compiles it, with the bundle's weights
    if it has them. For a ``machine`` whose GPU the plan does not serve, the second line names its
    compute capability too, or the classic TensorRT if TensorRT-RTX does not run on it.
    """
    if len(manifest.members) > 1:
        return ()
    spec = f"{manifest.net}.vgg"
    target = f"{spec}:{manifest.net}" if _has_several_nets(manifest.spec_text) else spec
    words = ["vggspec", "compile", target, *flags(_options_to_name(manifest, machine))]
    if manifest.precision == "int8":
        words += ["--calibrate", "DIR"]  # the images are not recorded
    for flag, path in (("--weights", WEIGHTS), ("--factors", FACTORS)):
        if any(entry.path == path for entry in manifest.files):
            words += [flag, f"{bundle.rstrip('/')}/{path}"]
    words += ["-o", f"{bundle.rstrip('/')}-rebuilt"]
    out = shlex.quote(spec)
    return f"vggspec inspect {shlex.quote(bundle)} --spec > {out}", shlex.join(words)


def _options_to_name(manifest: Manifest, machine: Machine | None) -> CompileOptions:
    """The options of a bundle without those that follow from the spec."""
    options, engine = manifest.options, manifest.options.engine
    if engine is not None and manifest.engine is not None:
        named = _capabilities_to_name(manifest.engine, machine)
        engine = replace(engine, flavour=_flavour(manifest.engine, machine), capabilities=named)
    return replace(
        options,
        form=None if manifest.form == "dense" and not options.protocol else manifest.form,
        average=None if _follows(manifest) else manifest.average,
        link_weights=False,  # depends on where the weights are
        engine=engine,
    )


def _follows(manifest: Manifest) -> bool:
    """Whether the average is the spec's, or without effect."""
    return manifest.compares or manifest.average == manifest.test.average


def _flavour(engine: Engine, machine: Machine | None) -> Flavour:
    """The engine's own, or the classic TensorRT for a GPU that TensorRT-RTX does not run on."""
    if machine is None or not machine.gpus or rtx_supports(machine.gpus[0]):
        return engine.flavour
    return "tensorrt"


def _capabilities_to_name(engine: Engine, machine: Machine | None) -> tuple[str, ...]:
    if _flavour(engine, machine) != "tensorrt_rtx":
        return ()  # built for the GPU of the machine that builds it
    if engine.is_open_ended and engine.capabilities == RTX_DEFAULT:
        return ()
    if machine is None or not machine.gpus or machine.gpus[0].capability in engine.capabilities:
        return engine.capabilities
    here = machine.gpus[0].capability
    # A later capability that cannot be named is served by a plan for all of them.
    return (*engine.capabilities, here) if here in RTX_CAPABILITIES else ()


def _has_several_nets(spec_text: str) -> bool:
    """Whether a spec's text has more than one net: a table of columns, or ``net`` repeated."""
    lines = [line.strip() for line in spec_text.splitlines()]
    named = [line for line in lines if re.match(r"net\s", line)]
    return len(named) > 1 or any(line.startswith("|") for line in lines)


def _numbers(version: str) -> tuple[int, ...]:
    """``10.3.0`` as numbers; empty if it does not begin with one."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
