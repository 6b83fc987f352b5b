"""Data sets in files of their own: CIFAR's, MNIST's and Parquet files, damaged or cut."""

import gzip
import io
import json
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from tests.training.folders import tiny
from vggspec.base.optional import has_library
from vggspec.data.decode import BadImageError, decode
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.training.dataset import DataSet, open_data

THREE = tiny().network
TEN = tiny(("FC-3\n", "FC-10\n")).network


def one(random: Random, folder: Path) -> str:
    """Files of one kind, one of them damaged, to both that open labelled images."""
    kinds = [_cifar, _idx, *([_parquet] if has_library("pyarrow") else [])]
    files = dict(random.choice(kinds)())
    network = TEN if "test_batch.bin" in files else THREE
    hit = random.choice([None, *files])
    if hit is not None:
        files[hit] = _damaged(random, hit, files[hit])
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found: dict[str, DataSet | Labelled] = {}
    answers = [
        answer(lambda: found.update(train=open_data(folder, network))),
        answer(lambda: found.update(val=open_labelled(folder))),
    ]
    for each in found.values():
        split = each.train if isinstance(each, DataSet) else each.images
        assert len(split) == len(split.labels) > 0
        for index in range(0, len(split), 5):
            assert split.name(index).startswith(str(folder))
            try:
                assert decode(split.read(index), "RGB").shape[2] == 3
            except BadImageError:
                assert hit is not None
    assert hit is not None or len(found) == 2
    return answers[random.randrange(2)]


def _damaged(random: Random, name: str, content: bytes) -> bytes:
    if name.endswith(".gz") and random.randrange(2):
        return gzip.compress(mutate.damaged(random, gzip.decompress(content)))
    return mutate.damaged(random, content)


@lru_cache
def _cifar() -> tuple[tuple[str, bytes], ...]:
    records = np.zeros((10, 3073), np.uint8)
    records[:, 0] = np.arange(10)
    batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
    files = [(name, records.tobytes()) for name in (*batches, "test_batch.bin")]
    names = "\n".join(f"kind {number}" for number in range(10))
    return (*files, ("batches.meta.txt", names.encode()))


@lru_cache
def _idx() -> tuple[tuple[str, bytes], ...]:
    def idx(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
        head = (0x800 + array.ndim, *array.shape)
        return gzip.compress(b"".join(n.to_bytes(4) for n in head) + array.tobytes())

    images, labels = np.zeros((6, 9, 7), np.uint8), np.array([0, 1, 2] * 2, np.uint8)
    return tuple(
        (f"{stem}-{kind}-ubyte.gz", idx(array))
        for stem in ("train", "t10k")
        for kind, array in (("images-idx3", images), ("labels-idx1", labels))
    )


@lru_cache
def _parquet() -> tuple[tuple[str, bytes], ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB", (5, 4)).save(png, "PNG")
    names = {"names": ["a", "b", "c"], "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": names}
    hub = json.dumps({"info": {"features": features}})
    table = pa.table(
        {
            "image": [{"bytes": png.getvalue(), "path": "1.png"}] * 6,
            "label": [0, 1, 2] * 2,
        }
    )
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": hub}), file, row_group_size=4)
    return ("train.parquet", file.getvalue()), ("test.parquet", file.getvalue())
