"""Manifests of bundles: JSON with parts replaced, and bytes that are no JSON."""

import json
from pathlib import Path
from random import Random

from tests.fuzz import mutate, seeds
from tests.fuzz.harness import answer
from vggspec.bundle import MANIFEST, OWN_SHA256, open_bundle


def one(random: Random, folder: Path) -> str:
    """A manifest to ``open_bundle``."""
    path = seeds.bundle(folder)
    text = (path / MANIFEST).read_bytes()
    if random.randrange(4):
        value = json.loads(text)
        del value[OWN_SHA256]  # else it would be all that is wrong
        data = mutate.as_json(mutate.twisted(random, value))
    else:
        data = mutate.damaged(random, text)
    (path / MANIFEST).write_bytes(data)
    return answer(lambda: open_bundle(path))
