"""``vggspec import`` of torchvision's file of VGG-16 against a copy of it plus its unpickling."""

import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

from benchmarks.measure import Claim, conclude, milliseconds, process, ratio
from benchmarks.weights import weights_of_d


def main() -> list[Claim]:
    """At most twice the time, and a peak of memory of at most 1.3 times the file."""
    ours, theirs, peak = [], [], 0.0
    with tempfile.TemporaryDirectory(dir=weights_of_d().parent) as folder:
        checkpoint = Path(folder) / "vgg16.pth"
        # In a process of its own: one that has grown large lends its size to those it starts.
        writing = get_context("spawn").Process(target=_write, args=(checkpoint,))
        writing.start()
        writing.join()
        assert writing.exitcode == 0
        imported, copied = f"{folder}/D.safetensors", f"{folder}/copied.pth"
        ours_way = [sys.executable, "-m", "vggspec", "import", "D", str(checkpoint), "-o", imported]
        peer = [sys.executable, "-m", "benchmarks.peers.copy_and_load", str(checkpoint), copied]
        process(peer)
        for _ in range(3):
            theirs.append(process(peer).seconds)
            run = process(ours_way)
            Path(imported).unlink()
            ours.append(run.seconds)
            peak = max(peak, run.peak_mb)
        megabytes = checkpoint.stat().st_size / 2**20
    detail = f"import {milliseconds(ours)}, copy and torch.load {milliseconds(theirs)}"
    return [
        Claim(
            f"import D / copy and torch.load, {megabytes:.0f} MiB",
            ratio(ours, theirs),
            2,
            at_least=False,
            detail=detail,
        ),
        Claim("peak memory of import D / the file", peak / megabytes, 1.3, at_least=False),
    ]


def _write(path: Path) -> None:
    """The state of torchvision's module, with our numbers in its order."""
    import torch
    from safetensors.torch import load_file

    from benchmarks.train_step import Vgg16

    state = Vgg16().state_dict()
    for name, tensor in zip(state, load_file(weights_of_d()).values(), strict=True):
        assert tensor.numel() == state[name].numel(), name
        state[name] = tensor.reshape(state[name].shape)
    torch.save(state, path)


if __name__ == "__main__":
    sys.exit(conclude(main()))
