"""Manifests of bundles: JSON with parts replaced, and bytes that are no JSON.

What opens is used as ``inspect``, ``predict`` and ``verify`` use it, as far as that takes
milliseconds: its specs are compiled, its profiles derived, its model loaded and run.
"""

import contextlib
import hashlib
import io
import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.fuzz import mutate, seeds
from tests.fuzz.harness import answer
from vggspec.bundle.manifest import MANIFEST, OWN_SHA256
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.cli.inspect import print_inspection
from vggspec.compiler.bundling.net import lowered_of
from vggspec.runtime.compatibility import compare_bundle
from vggspec.runtime.machine import Machine
from vggspec.runtime.predictor import Predictor
from vggspec.studies.inspection.inspection import inspected
from vggspec.studies.verification.cases import cases, within

PICTURE = np.zeros((24, 20, 3), np.uint8)


def one(random: Random, folder: Path) -> str:
    """A manifest to whoever reads manifests."""
    path = seeds.bundle(folder)
    text = (path / MANIFEST).read_bytes()
    if random.randrange(4):
        value = json.loads(text)
        del value[OWN_SHA256]  # else it would be all that is wrong
        twisted = mutate.twisted(random, value)
        if random.randrange(2):
            _sign(twisted)
        data = mutate.as_json(twisted)
    else:
        data = mutate.damaged(random, text)
    (path / MANIFEST).write_bytes(data)
    found = [answer(lambda: open_bundle(path))]
    if found == ["ok"]:
        bundle = open_bundle(path)
        found += [answer(partial(use, bundle)) for use in USES]
    return "/".join(found)


def _sign(manifest: Any) -> None:
    """Give another spec the digest that it has, so that it is read."""
    if isinstance(manifest, dict) and isinstance(manifest.get("spec_text"), str):
        text = manifest["spec_text"].encode(errors="surrogatepass")
        manifest["spec_sha256"] = hashlib.sha256(text).hexdigest()


def _inspect(bundle: Bundle) -> None:
    found = inspected(bundle)
    json.dumps(found.as_data())
    with contextlib.redirect_stdout(io.StringIO()):
        print_inspection(found)


def _predict(bundle: Bundle) -> None:
    with Predictor(bundle.path, device="cpu", threads=1) as predictor:
        scales = [min(scale, 64) for scale in predictor.manifest.test.scales[:2]]
        predictor(PICTURE, scales=scales).top()


def _profiles(bundle: Bundle) -> None:
    within(cases(profiles_of(bundle.manifest)), is_engine=False)
    compare_bundle(bundle.manifest, Machine(platform="linux-x86_64"))


USES = (_inspect, _predict, _profiles, lowered_of)
