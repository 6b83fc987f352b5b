"""Appendix A of the paper asked of small nets: boxes for each class or shared, central or dense?

Trains the three nets of ``miniature-boxes.vgg`` on the pictures of ``shapes.py``, one that names
shapes and two that say where they are, tests them by both protocols, and writes a table of the
localisation errors, beside those of a net that says the same box of every picture.

    python -m benchmarks.localisation_in_miniature

Source: Simonyan & Zisserman 2015, appendix A.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import shapes
from benchmarks.laboratory import Effort, Laboratory, asked, at_once, line, percent, record
from benchmarks.weights import OUT
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import load_network
from vggspec.compiler.weights import describe, save
from vggspec.data.annotated import Examples, open_annotated
from vggspec.data.decode import decode
from vggspec.studies.localisation.localiser import MATCH
from vggspec.training.augment import central_region
from vggspec.training.box_crops import target

SPEC = Path(__file__).with_name("miniature-boxes.vgg")
CLASSIFIER, PER_CLASS, SHARED = "shapes", "shapes-per-class", "shapes-shared"
CONSTANT = "constant"  # the net whose box is the same for every picture
LAYOUT = shapes.Layout(size=(0.3, 0.8), anywhere=True)
Q = 37  # the scale that the nets are trained at
SHOWN = "val/ring-checked/0005.jpg"

USUAL = Effort(epochs=16)
QUICK = Effort(seeds=1, epochs=1, train=8, val=6)

NAMES = {PER_CLASS: "per class", SHARED: "shared", CONSTANT: "the same for every picture"}
COUNTS = {
    "class_given_error": "class given",
    "top5_error": "top-5 error",
    "top1_error": "top-1 error",
}
TRAINED = (
    (CLASSIFIER, "top-1"),
    (CLASSIFIER, "top-5"),
    (PER_CLASS, "localisation"),
    (SHARED, "localisation"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Nets of boxes and how they are tested: a row of a table."""

    nets: tuple[str, ...]
    scales: tuple[int, ...] = (Q,)
    is_dense: bool = False
    flip: bool = True
    match: float = MATCH
    """The threshold of the merge, where there is one."""

    @property
    def name(self) -> str:
        nets = " and ".join(NAMES[net] for net in self.nets)
        return f"{nets}, {self.evaluation}" + (f", match {self.match:g}" if self.is_dense else "")

    @property
    def evaluation(self) -> str:
        way = "dense" if self.is_dense else "central"
        scales = "" if self.scales == (Q,) else f", Q {', '.join(map(str, self.scales))}"
        return f"{way}{scales}{'' if self.flip else ', no mirror image'}"

    def options(self) -> list[str]:
        """Of ``vggspec localise``, after the first net."""
        words = [word for net in self.nets[1:] for word in ("--with", net)]
        if self.is_dense:
            words += ["--classifier", CLASSIFIER, "--match", f"{self.match:g}"]
        words += ["--scales", ",".join(map(str, self.scales))]
        return words + ([] if self.flip else ["--no-flip"])


SAME_BOX = Setting(nets=(CONSTANT,), flip=False)
PROTOCOLS = (
    Setting(nets=(PER_CLASS,), flip=False),
    Setting(nets=(PER_CLASS,)),
    Setting(nets=(PER_CLASS,), is_dense=True),
    Setting(nets=(PER_CLASS,), is_dense=True, scales=(37, 48)),
    Setting(nets=(PER_CLASS,), is_dense=True, scales=(37, 48, 64)),
    Setting(nets=(SHARED,), flip=False),
    Setting(nets=(SHARED,)),
    Setting(nets=(SHARED,), is_dense=True),
    Setting(nets=(SHARED,), is_dense=True, scales=(37, 48)),
    Setting(nets=(PER_CLASS, SHARED), is_dense=True, scales=(37, 48)),
)
THRESHOLDS = tuple(
    Setting(nets=(PER_CLASS,), is_dense=True, scales=(37, 48), match=match)
    for match in (0, 0.3, 0.6, 0.9)
)

Errors = Mapping[str, float]


class Study(Laboratory):
    """Pictures, and for each seed a folder with its nets and what they are found to do."""

    def __init__(self, root: Path, effort: Effort) -> None:
        super().__init__(root)
        self._effort = effort
        self._pictures = self.draw(effort, LAYOUT)

    def see(self, seed: int) -> dict[str, Errors]:
        """Every setting's errors by its name; those of the nets' own validation by theirs."""
        folder = self.root / str(seed)
        folder.mkdir(exist_ok=True)
        shutil.copy(SPEC, folder)
        found = {net: self._train(net, folder, seed) for net in (CLASSIFIER, PER_CLASS, SHARED)}
        for setting in dict.fromkeys((*PROTOCOLS, *THRESHOLDS)):
            found[setting.name] = self._errors(setting, folder)
            print(f"seed {seed}: {setting.name}: {told(found[setting.name])}", flush=True)
        return found

    def see_constant(self) -> Errors:
        """The errors of the net whose box is the same for every picture, and for every seed."""
        weights = self.root / f"{CONSTANT}.safetensors"
        if not weights.exists():
            write_constant(weights, load_network(f"{SPEC}:{SHARED}").network, self._pictures)
        self._compile(SHARED, self.root, CONSTANT)
        return self._errors(SAME_BOX, self.root)

    def show(self, seed: int) -> str:
        """Draw the boxes of a picture; what is told of them."""
        setting = Setting(nets=(PER_CLASS,), is_dense=True, scales=(37, 48))
        words = [PER_CLASS, str(self._pictures / SHOWN), *setting.options(), "--classes", "2"]
        return self.vggspec("localise", *words, "-o", "boxes.png", within=self.root / str(seed))

    def _train(self, net: str, folder: Path, seed: int) -> Errors:
        """Train and compile; the errors of the best epoch."""
        run, spec = folder / f"run-{net}", f"{folder / SPEC.name}:{net}"
        best = self.trained(spec, run, self._pictures, seed, [self._effort.stop])
        shutil.copy(best, folder / f"{net}.safetensors")  # where nets that start from it look
        self._compile(net, folder, net)
        errors: Errors = record(run)["result"]["best"]["validation"]["errors"]
        print(f"seed {seed}: {net}, trained: {told(errors)}", flush=True)
        return errors

    def _compile(self, net: str, folder: Path, bundle: str) -> None:
        if not (folder / bundle).exists():
            weights = f"{bundle}.safetensors"
            words = [f"{SPEC}:{net}", "--weights", weights, "-o", bundle]
            self.vggspec("compile", *words, within=folder)

    def _errors(self, setting: Setting, folder: Path) -> Errors:
        path = folder / f"{setting.name}.json"
        if not path.exists():
            words = [setting.nets[0], "--data", str(self._pictures), *setting.options()]
            words += ["--device", "cpu", "--threads", "1", "--json"]
            told = json.loads(self.vggspec("localise", *words, within=folder))
            path.write_text(json.dumps({key: told[key] for key in COUNTS if key in told}))
        errors: Errors = json.loads(path.read_text())
        return errors


def write_constant(path: Path, network: Network, pictures: Path) -> None:
    """Weights of a net of shared boxes that says of every window the mean of the training boxes.

    They are those of the central windows at Q. All weights are 0, and so is every bias but the
    last, which is this mean.
    """
    arrays = {param.name: np.zeros(param.stored, np.float32) for param in network.params()}
    bias = network.weight_layers[-1].params[-1]
    arrays[bias.name] = mean_box(network, pictures).astype(np.float32)
    save(path, arrays, describe(network))


def mean_box(network: Network, pictures: Path) -> NDArray[np.float64]:
    """Of the training boxes: ``(4,)``, as a net says it of the central window at Q."""
    examples = Examples(open_annotated(pictures, "train"))
    size = network.input.height, network.input.width
    said = []
    for index in range(len(examples)):
        image = decode(examples.read(index), "RGB")
        said.append(target(image, examples.boxes(index), central_region(image, Q, *size)).boxes)
    return np.concatenate(said).mean(axis=0, dtype=np.float64)


def told(errors: Errors) -> str:
    """Errors in a line."""
    return ", ".join(f"{COUNTS.get(key, key)} {percent([error])}" for key, error in errors.items())


def tables(found: Sequence[Mapping[str, Errors]], constant: Errors) -> str:
    """The tables in Markdown, of what was seen with each seed and by the constant net."""
    found = [{SAME_BOX.name: constant}, *found]

    def row(name: str, keys: Iterable[str], *first: str) -> str:
        errors = [seen[name] for seen in found if name in seen]
        shares = ([one[key] for one in errors if key in one] for key in keys)
        return line(*first, *(percent(one) if one else "" for one in shares))

    lines = [line("boxes", "evaluation", *COUNTS.values()), "|---|---|---|---|---|"]
    for setting in (SAME_BOX, *PROTOCOLS):
        boxes = " and ".join(NAMES[net] for net in setting.nets)
        lines.append(row(setting.name, COUNTS, boxes, setting.evaluation))
    lines += ["", line("`--match`", *COUNTS.values()), "|---|---|---|---|"]
    for setting in THRESHOLDS:
        lines.append(row(setting.name, COUNTS, f"{setting.match:g}"))
    lines += ["", line("net", "error", "best of its training's validations"), "|---|---|---|"]
    for net, key in TRAINED:
        lines.append(row(net, (key,), net, key))
    return "\n".join(lines)


def main() -> None:
    given = asked("Appendix A of the paper, asked of small nets.", USUAL, QUICK)
    root = OUT / ("localisation-quick" if given.is_quick else "localisation")
    study = Study(root, given.effort)
    seeds = [(seed,) for seed in range(given.effort.seeds)]
    found = tables(at_once(given.jobs, study.see, seeds), study.see_constant())
    text = f"{given.effort}; the mean ± the standard deviation over seeds.\n\n{found}\n"
    (study.root / "table.md").write_text(text)
    print(f"\n{text}\n{study.show(0)}\n{study.root / 'table.md'}")


if __name__ == "__main__":
    main()
