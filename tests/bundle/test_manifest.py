"""A bundle is read as a stranger's: whatever is in it, there is a report or a manifest."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.refusals import refused
from tests.runtime.bundles import Made, as_data, make, rewrite
from vggspec.base import recipe
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import (
    FORMAT,
    MANIFEST,
    MODEL,
    OWN_SHA256,
    OutputContract,
    OutputKind,
    read_manifest,
)
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.sizes import Remainders, Sizes


def code(error: pytest.ExceptionInfo[VggspecError]) -> str:
    (report,) = error.value.reports
    return report.what.code


def title(error: pytest.ExceptionInfo[VggspecError]) -> str:
    return error.value.reports[0].what.title()


def test_a_manifest_survives_the_way_through_its_file(tmp_path: Path) -> None:
    test = recipe.TestProtocol(scales=(256, 384, 512), crops=5, flip=False, average="posteriors")
    made = make(tmp_path / "small", labels=("ä", "b", "c", "d", '"'), test=test)
    bundle = open_bundle(made.path, deep=True)
    assert bundle.manifest == made.manifest
    assert bundle.model == made.path / MODEL


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net", None),
        ("net", 7),
        ("options.form", "sparse"),
        ("options.average", "median"),
        ("input", []),
        ("input.contract", "double"),
        ("input.mean", [1.0, 2.0]),
        ("input.mean", [1.0, 2.0, float("nan")]),
        ("input.mean", ["1", "2", "3"]),
        ("input.std", [1.0, 0.0, 1.0]),
        ("input.std", []),
        ("input.mean", []),
        ("spec_text", "net other"),
        ("spec_sha256", "0" * 64),
        ("test.scales", [256] * 60_000),
        ("files.0.path", "1/model\0.onnx"),
        ("files.0.path", "x/" * 3000),
        ("input.scale", 10**400),
        ("input.scale", float("inf")),
        ("input.scale", True),
        ("input.size", [0, 16]),
        ("input.size", [16]),
        ("input.size", [16.0, 16.0]),
        ("input.is_dynamic", 1),
        ("input.sizes", "some"),
        ("input.sizes", None),
        ("input.sizes", 4),
        ("input.sizes", {"rows": {"period": 4, "remainders": [0]}}),
        ("outputs", []),
        ("outputs", [3]),
        ("outputs.0.kind", "labels"),
        ("outputs.0.channels", 0),
        ("outputs.0.channels", -1),
        ("window", "16x16"),
        ("stride", [4, 0]),
        ("options.pool", "up"),
        ("options.stride", 0),
        ("options.keep_fp32", [1]),
        ("options.precision", "int8"),
        ("options", None),
        ("options.engine", {}),
        ("options.stride", "2"),
        ("options.layer", 7),
        ("options.layer", "fc3"),
        ("outputs.0.kind", "features"),
        ("labels", ["a"]),
        ("labels", [1, 2, 3, 4, 5]),
        ("test.scales", []),
        ("test.scales", [1.5]),
        ("test.scales", [1 << 40]),
        ("test.crops", 0),
        ("test.crops", 10**9),
        ("tools", None),
        ("files", []),
        ("files.0.bytes", -1),
        ("files.0.path", "../../etc/passwd"),
        ("files.0.path", "/etc/passwd"),
        ("files.0.path", "C:\\secrets"),
        ("model", "../model.onnx"),
        ("model", ""),
        ("model", "1/other.onnx"),
        ("format", 0),
        ("format", "1"),
        ("format", None),
    ],
)
def test_a_wrong_value_is_named(made: Made, key: str, value: Any) -> None:
    rewrite(made.path, {key: value})
    with pytest.raises(VggspecError) as error:
        open_bundle(made.path)
    assert code(error) == "VGG522"
    words = key.split(".")
    assert next(word for word in reversed(words) if not word.isdigit()) in title(error)


def test_sizes_are_read(made: Made) -> None:
    axis = {"period": 8, "remainders": [0, 3]}
    rewrite(made.path, {"input.sizes": {"rows": axis, "columns": axis}})
    read = Remainders(8, (0, 3))
    assert open_bundle(made.path).manifest.input.sizes == Sizes(read, read)


def test_without_sizes_all_fit(made: Made) -> None:
    """In bundles that were written before."""
    data = json.loads((made.path / MANIFEST).read_text("utf-8"))
    del data["input"]["sizes"], data[OWN_SHA256]
    (made.path / MANIFEST).write_text(json.dumps(data), "utf-8")
    assert open_bundle(made.path).manifest.input.sizes == "any"


@pytest.mark.parametrize(
    ("period", "remainders"),
    [(0, [0]), (4, []), (4, [4]), (4, [2, 0]), (4, [0, 0]), (8, [1]), (1 << 20, [0]), (4, 0)],
)
def test_remainders_are_checked(made: Made, period: int, remainders: Any) -> None:
    axis = {"period": period, "remainders": remainders}
    rewrite(made.path, {"input.sizes": {"rows": axis, "columns": axis}})
    with refused("VGG522.*`input.sizes"):
        open_bundle(made.path)


def test_a_newer_format_is_told_apart_from_damage(made: Made) -> None:
    rewrite(made.path, {"format": FORMAT + 1, "net": None})
    with pytest.raises(VggspecError) as error:
        open_bundle(made.path)
    assert code(error) == "VGG523"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}']
)
def test_what_is_no_manifest_is_reported(made: Made, data: bytes) -> None:
    (made.path / MANIFEST).write_bytes(data)
    with pytest.raises(VggspecError) as error:
        open_bundle(made.path)
    assert code(error) == "VGG522"


def test_no_bundle_is_reported(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cases = {
        tmp_path / "nothing": "there is no such bundle",
        tmp_path: "it has no manifest.json",
        tmp_path / "file": "this is a file, and a bundle is a folder",
        made.path / "1": f"it is part of the bundle `{made.path}`",
    }
    for path, text in cases.items():
        with pytest.raises(VggspecError) as error:
            open_bundle(path)
        (one,) = error.value.reports
        assert one.what.code == "VGG521"
        assert text in f"{one.what.title()}; {one.what.help()}"


@pytest.mark.parametrize("old", ['"net": "', '"channels": ', '"mean": [', '"scale": '])
def test_a_changed_manifest_is_noticed(made: Made, old: str) -> None:
    """Of values that might as well be others."""
    text = (made.path / MANIFEST).read_text("utf-8")
    assert old in text
    at = text.index(old) + len(old)
    at = next(i for i in range(at, len(text)) if text[i].isalnum())
    changed = text[:at] + ("9" if text[at].isdigit() else "z") + text[at + 1 :]
    assert open_bundle(made.path).manifest == made.manifest
    (made.path / MANIFEST).write_text(changed, "utf-8")
    with pytest.raises(VggspecError) as error:
        open_bundle(made.path)
    assert code(error) == "VGG522"


def test_a_changed_model_is_refused(made: Made) -> None:
    model = made.path / MODEL
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with refused("SHA-256") as error:
        open_bundle(made.path)
    assert code(error) == "VGG524"


def test_a_truncated_model_is_refused(made: Made) -> None:
    os.truncate(made.path / MODEL, 100)
    with refused("has 100 bytes, not") as error:
        open_bundle(made.path)
    assert code(error) == "VGG524"


def test_a_missing_model_is_refused(made: Made) -> None:
    (made.path / MODEL).unlink()
    with refused("cannot be read") as error:
        open_bundle(made.path)
    assert code(error) == "VGG524"


def test_a_file_may_be_a_link_to_where_the_user_keeps_it(made: Made, tmp_path: Path) -> None:
    model = made.path / MODEL
    outside = tmp_path / "outside.onnx"
    model.rename(outside)
    model.symlink_to(outside)
    assert open_bundle(made.path, deep=True).manifest == made.manifest
    outside.write_bytes(outside.read_bytes()[::-1])
    with refused("SHA-256") as error:
        open_bundle(made.path)
    assert code(error) == "VGG524"


def test_links_in_a_ring_are_reported(made: Made) -> None:
    for name, wanted in ((MODEL, "VGG524"), (MANIFEST, "VGG510")):
        path = made.path / name
        path.unlink()
        path.symlink_to(path.name)
        with refused("symbolic links") as error:
            open_bundle(made.path)
        assert code(error) == wanted


def test_large_files_are_digested_only_when_asked(made: Made) -> None:
    weights = made.path / "1" / "model.safetensors"
    weights.write_bytes(bytes(5 << 20))
    entry = file_entry(made.path, "1/model.safetensors")
    files = as_data(made.manifest)["files"]
    rewrite(made.path, {"files": [*files, {**files[0], "path": entry.path, "bytes": entry.bytes}]})
    open_bundle(made.path)
    with refused("SHA-256"):
        open_bundle(made.path, deep=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("any") / "small").manifest.to_json()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_json_is_a_manifest_or_a_report(data: st.DataObject, text: str) -> None:
    manifest = json.loads(text)
    at: Any = manifest
    while isinstance(at, dict | list) and at:
        keys = sorted(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            at[key] = data.draw(json_values)
            break
        at = at[key]
    codes = set()
    try:
        read_manifest(json.dumps(manifest), "manifest.json")
    except VggspecError as error:
        codes = {report.what.code for report in error.reports}
    assert codes <= {"VGG522", "VGG523"}


@pytest.mark.parametrize(
    ("kind", "channels", "classes", "is_so"),
    [
        ("posteriors", 12, 12, True),
        ("posteriors", 12, 3, False),
        ("boxes", 12, 3, True),
        ("boxes", 12, 12, False),
        ("boxes", 12, 4, False),
        ("boxes", 4, 1, True),
        ("boxes", 4, 1000, True),  # shared
    ],
)
def test_classes_have_an_output_each_and_boxes_four_or_share_them(
    kind: OutputKind, channels: int, classes: int, *, is_so: bool
) -> None:
    output = OutputContract(name=kind, kind=kind, channels=channels)
    assert output.is_of(classes) == is_so
