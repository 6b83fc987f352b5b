"""The steps on a machine with a GPU, the most valuable first."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggspec.base.optional import has_library
from vggspec.runtime.machine import this_machine

VGGSPEC = (sys.executable, "-m", "vggspec")
GPU_TESTS = (
    "tests/training/test_gpu.py",
    "tests/runtime/test_session.py",
    "tests/runtime/test_machine.py",
    "tests/runtime/tensorrt/test_gpu.py",
    "tests/studies/verification/test_verification.py",
    "tests/compiler/backends/tensorrt/test_refit.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command with a time limit of its own."""

    name: str
    question: str
    seconds: float
    """After which it is stopped."""

    command: tuple[str, ...]
    """``$NAME`` in it is a variable of the environment."""

    needs: tuple[str, ...] = ("gpu",)
    """``gpu``, ``library A`` or ``library A|B``, ``variable NAME`` of an existing path."""

    refusal: str | None = None
    """A failure that prints these words is an answer too."""

    is_markdown: bool = True
    """Whether its output is a part of a document as it is."""


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """One of this folder's."""
    return (sys.executable, "-m", f"benchmarks.gpu.{name}", *arguments)


STEPS: tuple[Step, ...] = (
    Step(
        name="plan",
        question="Does a TensorRT-RTX engine, built without a GPU, give the net's answers here?",
        seconds=60,
        command=(*VGGSPEC, "verify", "$VGGSPEC_PLAN", "--device", "tensorrt"),
        needs=("gpu", "library pycuda", "library tensorrt_rtx", "variable VGGSPEC_PLAN"),
        refusal="cannot run here",
        is_markdown=False,
    ),
    Step(
        name="tests",
        question="Do the tests that need a GPU pass?",
        seconds=120,
        command=(
            *(sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"),
            *GPU_TESTS,
        ),
        needs=("gpu", "library pytest", "library hypothesis"),
        is_markdown=False,
    ),
    Step(
        name="dense",
        question="How fast is net D, applied densely, beside ONNX Runtime and PyTorch?",
        seconds=150,
        command=script(
            *("dense", "--precisions", "fp16", "fp32", "--without", "torch.compile"),
            *("--seconds", "1"),
        ),
        needs=("gpu", "library torch"),
    ),
    Step(
        name="engine",
        question="How fast is net D on TensorRT, beside a plain driver of the same engine?",
        seconds=180,
        command=script(
            *("engine", "--precisions", "fp16", "fp32", "--scales", "256", "384"),
            *("--batches", "1", "8", "--seconds", "2"),
        ),
        needs=("gpu", "library pycuda", "library tensorrt|tensorrt_rtx"),
    ),
    Step(
        name="bench",
        question="What does `vggspec bench` say of net D?",
        seconds=80,
        command=(
            *(*VGGSPEC, "bench", "specs/D.vgg", "--device", "cuda", "--wide"),
            *("--shape", "224x224,384x512", "--batch", "1,8", "--seconds", "1"),
        ),
        needs=("gpu",),
        is_markdown=False,
    ),
    Step(
        name="training",
        question="How fast does net D train in bf16, beside torchvision's net?",
        seconds=80,
        command=script("train", "--batches", "128", "--precisions", "bf16"),
        needs=("gpu", "library torch"),
    ),
    Step(
        name="ranks",
        question="Are the gradients of two ranks on one GPU those of one rank?",
        seconds=60,
        command=(
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "benchmarks.gpu.ranks"),
        ),
        needs=("gpu", "library torch"),
    ),
    Step(
        name="protocol",
        question="How fast is the whole test protocol on a folder, beside a plain loop?",
        seconds=60,
        command=script("protocol"),
        needs=("gpu", "library torch"),
    ),
    Step(
        name="vgg16",
        question="How many images/s of 224 × 224 does VGG-16 classify by TensorRT?",
        seconds=120,
        command=script(
            *("engine", "--square", "--precisions", "fp16", "--scales", "224"),
            *("--batches", "1", "64", "--seconds", "2"),
        ),
        needs=("gpu", "library pycuda", "library tensorrt|tensorrt_rtx"),
    ),
    Step(
        name="vgg16-plain",
        question="The same without TensorRT?",
        seconds=90,
        command=script(
            *("dense", "--square", "--precisions", "fp16", "--scales", "224"),
            *("--batches", "1", "64", "--seconds", "1"),
        ),
        needs=("gpu", "library torch"),
    ),
    Step(
        name="errors",
        question="What are the dense multi-scale errors of published weights?",
        seconds=240,
        command=(
            *(*VGGSPEC, "eval", "$VGG16_BUNDLE", "--data", "$ILSVRC", "--device", "cuda"),
            *("--scales", "256,384,512", "--dense", "--flip", "--limit", "2000"),
        ),
        needs=("gpu", "variable VGG16_BUNDLE", "variable ILSVRC"),
        is_markdown=False,
    ),
)


def lacking(needs: Sequence[str]) -> list[str]:
    """What of it is not here, in words."""
    found = []
    for need in needs:
        kind, _, name = need.partition(" ")
        if kind == "gpu" and not this_machine().gpus:
            found.append("no CUDA device")
        if kind == "library" and not any(map(has_library, name.split("|"))):
            found.append(f"{name.replace('|', ' or ')} is not installed")
        if kind == "variable" and not Path(os.environ.get(name, "/nowhere")).exists():
            found.append(f"{name} names no file")
    return found
