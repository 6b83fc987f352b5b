"""What a run leaves behind: weights, and a record from which it can be repeated."""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vggspec import __version__
from vggspec.catalogue.artefacts import CannotWrite
from vggspec.compiler.ir import Network
from vggspec.compiler.weights import describe, save
from vggspec.diagnostic import VggspecError, report
from vggspec.files import write_text
from vggspec.source import reason
from vggspec.train.runs import LOG, RECORD

if TYPE_CHECKING:
    from torch import Tensor

    from vggspec.compiler.lower import Lowered
    from vggspec.train.images import ImageFolder
    from vggspec.train.progress import Epoch, Result, Step
    from vggspec.train.statistics import Statistics


def save_weights(
    path: Path,
    network: Network,
    state: "Mapping[str, Tensor]",
    *,
    mean: tuple[float, ...],
    labels: tuple[str, ...],
) -> None:
    """Write a weights file, whole or not at all; running statistics are part of it.

    Raises:
        VggspecError: the system refuses; a file that was there before still is.
    """
    arrays = {param.name: state[param.name].cpu().numpy() for param in network.params()}
    save(path, arrays, describe(network, mean=mean, labels=labels))


def save_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Raises:
        VggspecError: the system refuses.
    """
    write_text(run / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def describe_run(
    lowered: "Lowered", data: "ImageFolder", statistics: "Statistics", seed: int, device: str
) -> dict[str, Any]:
    """Everything that a run depends on."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "pillow")}
    return {
        "net": lowered.network.name,
        "spec": lowered.spec.source.name,
        "spec_text": lowered.spec.source.text,
        "recipe": asdict(lowered.experiment.train),
        "test": asdict(lowered.experiment.test),
        "seed": seed,
        "device": device,
        "data": {
            "folder": str(data.root.resolve()),
            "classes": list(data.classes),
            "train_images": len(data.train),
            "val_images": len(data.val),
            "fingerprint": data.fingerprint,
        },
        "statistics": asdict(statistics),
        "versions": {"vggspec": __version__, "python": platform.python_version(), **versions},
    }


def describe_result(result: "Result") -> dict[str, Any]:
    """What came of it."""
    return {
        "result": {
            "best": None if result.best is None else asdict(result.best),
            "step": result.step,
            "was_stopped": result.was_stopped,
            "seconds": round(result.seconds, 3),
            "num_left_out": result.num_left_out,
            "left_out": list(result.left_out),
        }
    }


class Log:
    """``log.jsonl``: a line for each look at a run, on disk as soon as it is written.

    Raises:
        VggspecError: the system refuses.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / LOG
        with self._refusals():
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (see __exit__)

    def add(self, now: "Step | Epoch") -> None:
        """Write a line.

        Raises:
            VggspecError: the system refuses.
        """
        with self._refusals():
            self._file.write(json.dumps(asdict(now), ensure_ascii=False) + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = CannotWrite(reason=reason(error))
            raise VggspecError(report(what, path=str(self._path))) from error
