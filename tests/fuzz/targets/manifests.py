"""Manifests of bundles: JSON with parts replaced, and bytes that are no JSON."""

import json
from pathlib import Path
from random import Random

from tests.fuzz import mutate, seeds
from tests.fuzz.harness import answer
from vggspec.bundle import MANIFEST, open_bundle


def one(random: Random, folder: Path) -> str:
    """A manifest to ``open_bundle``."""
    path = seeds.bundle(folder)
    text = (path / MANIFEST).read_bytes()
    if random.randrange(4):
        data = mutate.as_json(mutate.twisted(random, json.loads(text)))
    else:
        data = mutate.damaged(random, text)
    (path / MANIFEST).write_bytes(data)
    return answer(lambda: open_bundle(path))
