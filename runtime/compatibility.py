"""Whether a bundle runs on a machine, and why not; judged by the manifest, nothing is loaded.

A plan that does not fit fails deep inside TensorRT, with words that do not say what to do. What
decides is known beforehand:

- TensorRT-RTX: the exact release, and the compute capabilities that the plan was built for. The
  same plan serves Linux and Windows.
- TensorRT: the platform, the version (or, where the plan was built version-compatible, a later
  one), and the GPU (or, where it was built hardware-compatible, a family of them).

Source: the TensorRT 11 and TensorRT-RTX 1 developer guides, "Version Compatibility" and "Hardware
Compatibility".
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vggspec.bundle.engine import RTX_CAPABILITIES, RTX_DEFAULT, Engine
from vggspec.bundle.manifest import WEIGHTS, Manifest
from vggspec.bundle.options import CompileOptions, flags
from vggspec.bundle.profile import Profile, derive_profiles
from vggspec.runtime.machine import Gpu, Machine
from vggspec.runtime.tensorrt.seam import FLAVOURS

Level = Literal["ok", "unknown", "problem"]

#: Where Ampere begins, which hardware compatibility starts from.
AMPERE = (8, 0)

#: Where arithmetic in bf16 begins.
BF16_SINCE = (8, 0)

#: ONNX opset to the first ONNX Runtime that knows it.
#: Source: https://onnxruntime.ai/docs/reference/compatibility.html
ORT_SINCE = {17: (1, 12), 18: (1, 14), 19: (1, 15), 20: (1, 17), 21: (1, 18)}


@dataclass(frozen=True, slots=True)
class Finding:
    """How one requirement is met."""

    level: Level
    subject: str
    """One or two words: ``version``, ``GPU``."""

    text: str


def fits(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing speaks against running; what is unknown does not."""
    return all(finding.level != "problem" for finding in findings)


def compare(engine: Engine, machine: Machine) -> tuple[Finding, ...]:
    """How an engine's requirements are met by a machine, one finding each.

    What the bundle's files and its number types want is told by ``compare_bundle``.
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
    """How a bundle's requirements are met: an engine's, or those of a graph for ONNX Runtime."""
    if manifest.engine is not None:
        return (*compare(manifest.engine, machine), *_bf16(manifest, machine))
    return tuple(_graph(manifest, machine))


# An engine's requirements.


def _platform(engine: Engine, machine: Machine) -> Finding:
    here, there = machine.platform, engine.platform
    if here == there:
        return Finding("ok", "platform", f"{here}, as it was built on")
    _, _, ours = here.partition("-")
    _, _, theirs = there.partition("-")
    if engine.flavour == "tensorrt":
        why = "plans of TensorRT do not cross platforms"
        return Finding("problem", "platform", f"built on {there}; this is {here}, and {why}")
    systems = {here.partition("-")[0], there.partition("-")[0]}
    if ours == theirs and systems == {"linux", "windows"}:
        why = "plans of TensorRT-RTX serve Linux and Windows"
        return Finding("ok", "platform", f"built on {there}; this is {here}: {why}")
    why = "plans of TensorRT-RTX are known to serve Linux and Windows on one architecture"
    return Finding("unknown", "platform", f"built on {there}; this is {here}, and {why}")


def _version(engine: Engine, machine: Machine) -> Finding:
    title = FLAVOURS[engine.flavour].title
    install = f'pip install "{_pinned(engine)}"'
    library = machine.trt(engine.flavour)
    built = f"built by {title} {engine.version}"
    if library is None:
        text = f"{built}, and none is installed: {install}"
        other = machine.trt("tensorrt" if engine.flavour == "tensorrt_rtx" else "tensorrt_rtx")
        if other is not None:
            text += f" (what is here, {other.version} of the other flavour, does not read it)"
        return Finding("problem", "version", text)
    if library.version == engine.version:
        return Finding("ok", "version", f"{title} {library.version}, as built it")
    here = f"{built}; here is {library.version}"
    if engine.flavour == "tensorrt_rtx":
        why = "and a plan of TensorRT-RTX runs on the very release that built it alone"
        return Finding("problem", "version", f"{here}, {why}: {install}")
    if not engine.is_version_compatible:
        why = "and it was not built version-compatible"
        return Finding("problem", "version", f"{here}, {why}: {install}")
    return _later(here, _numbers(engine.version), _numbers(library.version))


def _later(here: str, built: tuple[int, ...], found: tuple[int, ...]) -> Finding:
    """A version-compatible plan runs on later versions of its major one, and from 10 on 11."""
    if not built or not found:
        return Finding("unknown", "version", f"{here}; which is later cannot be told")
    if found[:2] < built[:2]:
        why = "and a version-compatible plan runs on later versions, not on earlier ones"
        return Finding("problem", "version", f"{here}, {why}")
    if found[0] == built[0] or (built[0], found[0]) == (10, 11):
        return Finding("ok", "version", f"{here}: later, and it was built version-compatible")
    why = f"and from major version {built[0]} to {found[0]} plans are not known to run"
    return Finding("problem", "version", f"{here}, {why}")


def _pinned(engine: Engine) -> str:
    """What to ask pip for."""
    name = engine.flavour.replace("_", "-")
    suffix = f"-cu{engine.cuda}" if engine.cuda else ""
    return f"{name}{suffix}=={engine.version}"


def _driver(engine: Engine, machine: Machine) -> Iterator[Finding]:
    if machine.driver is None:
        yield Finding("problem", "driver", "there is no NVIDIA driver here")
        return
    cuda = machine.driver.cuda
    if machine.driver.trouble is not None:
        yield Finding("problem", "driver", f"it shows no GPU: {machine.driver.trouble}")
    library = machine.trt(engine.flavour)
    if library is None or library.cuda is None:
        yield Finding(
            "unknown", "driver", f"serves CUDA {cuda}; which one the library wants is not known"
        )
        return
    wants = f"the library was built with CUDA {library.cuda}"
    if _numbers(cuda)[:1] < _numbers(library.cuda)[:1]:
        yield Finding(
            "problem", "driver", f"serves CUDA up to {cuda}, and {wants}: install a newer driver"
        )
    else:
        yield Finding("ok", "driver", f"serves CUDA up to {cuda}; {wants}")
    if engine.cuda is not None and engine.cuda != library.cuda:
        yield Finding(
            "unknown", "CUDA", f"built with CUDA {engine.cuda}; {wants}, which is untested"
        )


def _gpu(engine: Engine, machine: Machine) -> Iterator[Finding]:
    if not machine.gpus:
        yield Finding("problem", "GPU", f"it runs on {_served(engine)}; this machine shows no GPU")
        return
    judge = _gpu_of_rtx if engine.flavour == "tensorrt_rtx" else _gpu_of_classic
    found = [judge(engine, gpu) for gpu in machine.gpus]
    first = found[0]
    better = next((i for i, each in enumerate(found) if each.level == "ok"), None)
    if first.level != "ok" and better is not None:
        # CUDA's first GPU is the one that a session takes.
        advice = f"; GPU {better} does fit: set CUDA_VISIBLE_DEVICES={better}"
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
    named = sorted(_numbers(each) for each in engine.capabilities)
    here = _numbers(gpu.capability)
    built = f"it was built for compute capability {capabilities(engine)}"
    if here in named:
        return Finding("ok", "GPU", f"{gpu}: {built}")
    if named and engine.is_open_ended:
        if here > named[-1]:
            return Finding("ok", "GPU", f"{gpu}: {built}, and this is a later one")
        below = [each for each in named if each < here]
        if below:
            why = (
                f"{gpu.capability} is not among those named; it may run as later than"
                f" {_dotted(below[-1])}, which is untested"
            )
            return Finding("unknown", "GPU", f"{gpu}: {built}; {why}")
    return Finding("problem", "GPU", f"{gpu}: {built}; {gpu.capability} is not among them")


def _gpu_of_classic(engine: Engine, gpu: Gpu) -> Finding:
    here = _numbers(gpu.capability)
    on = f"built on {engine.gpu or 'a GPU'} ({capabilities(engine)})"
    is_same = gpu.capability in engine.capabilities
    if engine.hardware == "ampere_plus":
        if here >= AMPERE:
            return Finding("ok", "GPU", f"{gpu}: {on} for Ampere and later")
        return Finding(
            "problem", "GPU", f"{gpu}: {on} for Ampere and later, this is an earlier one"
        )
    if not is_same:
        why = "and a plan of TensorRT does not cross compute capabilities"
        return Finding("problem", "GPU", f"{on}; this is {gpu}, {why}")
    if engine.hardware == "same_compute_capability":
        return Finding("ok", "GPU", f"{gpu}: {on} for all of this compute capability")
    if gpu.name == engine.gpu:
        return Finding("ok", "GPU", f"{gpu}, as it was built on")
    why = "of the same compute capability: TensorRT warns that it may be slow, or fail"
    return Finding("unknown", "GPU", f"{on}; this is {gpu}, another model {why}")


def _pycuda(machine: Machine) -> Finding:
    if machine.has_pycuda:
        return Finding("ok", "pycuda", "installed")
    return Finding("problem", "pycuda", 'not installed: pip install "vggspec[cuda]"')


def _weights(engine: Engine) -> Iterator[Finding]:
    if engine.is_stripped:
        text = "the plan was stripped of them: put them in by `vggspec refit`"
        yield Finding("problem", "weights", text)


def _bf16(manifest: Manifest, machine: Machine) -> Iterator[Finding]:
    if manifest.precision != "bf16" or not machine.gpus:
        return
    gpu = machine.gpus[0]
    if _numbers(gpu.capability) < BF16_SINCE:
        yield Finding("problem", "precision", f"bf16 wants compute capability 8.0; this is {gpu}")


# What a graph asks of ONNX Runtime.


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
        yield Finding("unknown", "version", f"{title}; the graph is of {what}")
    elif _numbers(library.version)[:2] < since:
        why = f"opset {opset} wants {_dotted(since)} or later"
        yield Finding("problem", "version", f"{title}; the graph's {why}")
    else:
        yield Finding("ok", "version", f"{title} knows opset {opset}")
    yield _provider(machine)
    yield from _number_type(manifest, machine)


def _provider(machine: Machine) -> Finding:
    if not machine.gpus:
        trouble = machine.driver.trouble if machine.driver else None
        why = f" ({trouble})" if trouble else ""
        return Finding("ok", "device", f"it runs on the CPU; this machine shows no GPU{why}")
    gpu = machine.gpus[0]
    if machine.has_cuda_provider:
        return Finding("ok", "device", f"it runs on the CPU and on {gpu}")
    more = f"for {gpu}: pip install onnxruntime-gpu"
    return Finding("ok", "device", f"it runs on the CPU; this onnxruntime is not built {more}")


def _number_type(manifest: Manifest, machine: Machine) -> Iterator[Finding]:
    is_on_gpu = bool(machine.gpus) and machine.has_cuda_provider
    if manifest.precision == "fp32" or is_on_gpu:
        return
    if manifest.precision == "fp16":
        text = "ONNX Runtime computes fp16 in fp32 on a CPU: no faster than an fp32 bundle"
        yield Finding("ok", "precision", text)
    else:
        text = "ONNX Runtime has few layers in bf16 on a CPU and may refuse the graph"
        yield Finding("unknown", "precision", text)


# How to rebuild it.


def profiles_of(manifest: Manifest, max_batch: int | None = None) -> tuple[Profile, ...]:
    """The profiles that a bundle's test protocol asks for.

    Raises:
        VggspecError: a scale is smaller than the net's window.
    """
    image = manifest.input
    return derive_profiles(
        manifest.test,
        least=image.size,
        window=manifest.window if image.is_dynamic else image.size,
        is_dynamic=image.is_dynamic,
        max_batch=max_batch,
    )


def compile_command(
    manifest: Manifest, *, bundle: str, machine: Machine | None = None
) -> tuple[str, ...]:
    """The command lines that rebuild a bundle, from the options in its manifest.

    The first takes the spec out of the bundle, the second compiles it, with the bundle's weights
    where it has them. Where ``machine`` is given and the plan is bound to named compute
    capabilities, that of its GPU is added. A graph of several nets has as many specs, and no such
    lines.
    """
    if len(manifest.members) > 1:
        return ()
    spec = f"{manifest.net}.vgg"
    target = f"{spec}:{manifest.net}" if _has_several_nets(manifest.spec_text) else spec
    words = ["vggspec", "compile", target, *flags(_options_to_name(manifest, machine))]
    if any(entry.path == WEIGHTS for entry in manifest.files):
        words += ["--weights", f"{bundle.rstrip('/')}/{WEIGHTS}"]
    words += ["-o", f"{bundle.rstrip('/')}-rebuilt"]
    out = shlex.quote(spec)
    return f"vggspec inspect {shlex.quote(bundle)} --spec > {out}", shlex.join(words)


def _options_to_name(manifest: Manifest, machine: Machine | None) -> CompileOptions:
    """The options of a bundle without those that the spec says."""
    options, engine = manifest.options, manifest.options.engine
    if engine is not None and manifest.engine is not None:
        named = _capabilities_to_name(manifest.engine, machine)
        engine = replace(engine, capabilities=named)
    return replace(
        options,
        form=None if manifest.form == "dense" and not options.protocol else manifest.form,
        average=None if manifest.average == manifest.test.average else manifest.average,
        copy_weights=False,  # a matter of where the weights lie
        engine=engine,
    )


def _capabilities_to_name(engine: Engine, machine: Machine | None) -> tuple[str, ...]:
    if engine.flavour != "tensorrt_rtx":
        return ()  # it is built for the GPU of the machine that builds
    if engine.is_open_ended and engine.capabilities == RTX_DEFAULT:
        return ()
    if machine is None or not machine.gpus or machine.gpus[0].capability in engine.capabilities:
        return engine.capabilities
    here = machine.gpus[0].capability
    # What cannot be named is served, if at all, by what is built for all.
    return (*engine.capabilities, here) if here in RTX_CAPABILITIES else ()


def _has_several_nets(spec_text: str) -> bool:
    """Whether a spec's text holds more than one net: a table of columns, or ``net`` repeated."""
    lines = [line.strip() for line in spec_text.splitlines()]
    named = [line for line in lines if re.match(r"net\s", line)]
    return len(named) > 1 or any(line.startswith("|") for line in lines)


def _numbers(version: str) -> tuple[int, ...]:
    """``10.3.0`` as numbers; none where it does not begin with one."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
