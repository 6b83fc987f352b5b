"""What int8 costs in accuracy: on the digits of the demo, and on drawn shapes, plain and residual.

Trains small nets, compiles each in fp32 and in int8, and tests both on validation images that
calibrated neither: the training images calibrate.

    python -m benchmarks.int8_accuracy
"""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.laboratory import Effort, Laboratory, asked, line
from benchmarks.weights import OUT
from vggspec.bundle.opening import open_bundle

PLAIN = Path(__file__).with_name("miniature.vgg")

#: Batch normalisation, sums, a strided shortcut and a global average.
RESIDUAL = """\
net residual
input 32x32 RGB(std 60)
conv3-16
[conv3-16 conv3-16 + shortcut] x2
[conv3-32/2(once) conv3-32 + shortcut] x2
[conv3-64/2(once) conv3-64 + shortcut] x2
gap
FC-12
soft-max
conv is conv(no-bias) BN ReLU
train:
  scale 37
  colour-shift 0
  batch 32
  weight-decay 1e-4
  dropout 0
  rate 5e-2
  decay 5 on plateau of 3 epochs, 2 times
  start he
test:
  scale 37
"""

USUAL = Effort(seeds=1, epochs=12)
QUICK = Effort(seeds=1, epochs=2, train=40, val=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A trained net and its images."""

    name: str
    spec: str
    weights: Path
    data: Path


def nets(lab: Laboratory, effort: Effort) -> list[Net]:
    """The nets, trained unless they are there."""
    demo = lab.root / "demo"
    if not demo.exists():
        lab.vggspec("demo", "-o", str(demo))
    (digits,) = (demo / "runs" / "digits").glob("*/best.safetensors")
    shapes = lab.draw(effort)
    residual = lab.root / "residual.vgg"
    residual.write_text(RESIDUAL)
    found = [Net(name="digits", spec="digits", weights=digits, data=demo / "images")]
    for name, spec in (("shapes, A", f"{PLAIN}:A"), ("shapes, residual", str(residual))):
        run = lab.root / name.replace(", ", "-")
        weights = lab.trained(spec, run, shapes, 0, [effort.stop])
        found.append(Net(name=name, spec=spec, weights=weights, data=shapes))
    return found


def compared(lab: Laboratory, net: Net) -> tuple[str, ...]:
    """A line of the table: errors on all validation images, applied densely."""
    errors = []
    for precision in ("fp32", "int8"):
        bundle = f"{lab.root / net.name.replace(', ', '-')}-{precision}"
        how = ["--precision", precision]
        if precision == "int8":
            how += ["--calibrate", str(net.data / "train"), "--max-drop", "100"]
        lab.vggspec("compile", net.spec, "--weights", str(net.weights), "-o", bundle, *how)
        found = lab.vggspec("eval", bundle, "--data", str(net.data), "--json")
        errors.append(json.loads(found)["settings"][-1]["top1_error"])
    manifest = open_bundle(bundle).manifest
    made = manifest.calibration
    assert made is not None
    kept = ", ".join(manifest.fp32_layers) or "none"
    drop = 100 * (errors[1] - errors[0])
    return (net.name, *(f"{100 * error:.2f} %" for error in errors), f"{drop:+.2f}", kept)


def main() -> None:
    given = asked("What int8 costs in accuracy.", USUAL, QUICK)
    lab = Laboratory(OUT / ("int8-quick" if given.is_quick else "int8"))
    lines = [
        line("net", "top-1 error in fp32", "in int8", "points", "layers in fp32"),
        "|---|---|---|---|---|",
    ]
    lines += [line(*compared(lab, net)) for net in nets(lab, given.effort)]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
