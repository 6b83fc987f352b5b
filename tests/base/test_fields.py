"""JSON of strangers: what no value can be is refused, and what a reader asks for is checked."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.refusals import told
from vggspec.base.fields import MAX_DEPTH, BadFieldError, Fields, parse, parse_object

DIGITS = "1" * 401


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"{}{}", "not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte 0"),
        (b'{"a": "\xff"}', "byte 7"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), "nested too deeply"),
        (b'{"a": {"b": 1, "b": 2}}', "`b` stands twice"),
        (b'{"a": [0, NaN]}', r"`a\[1\]` is no finite number"),
        (b'{"a": Infinity}', "`a` is no finite number"),
        (b'{"a": -Infinity}', "`a` is no finite number"),
        (b'{"a": 1e400}', "`a` is no finite number"),
        (f'{{"a": {{"b": {DIGITS}}}}}'.encode(), r"`a\.b` is no finite number"),
        (f'{{"a": -{DIGITS}}}'.encode(), "`a` is no finite number"),
        (f'{{"a": {"9" * 5000}}}'.encode(), "`a` is no finite number"),
        (b'{"a": 9223372036854775808}', "`a` is beyond 64 bits"),
        (b'{"a": "x\\u0000"}', "`a` has a NUL"),
        (b'{"a": ["\\ud800"]}', r"`a\[0\]` has half a character"),
        (b'{"\\ud800": 1}', "a name in it has half a character"),
        (b'{"a": "\\udcff"}', "half a character"),
    ],
)
def test_what_no_value_can_be_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadFieldError, match=words) as error:
        parse(data)
    assert len(told(error.value)) < 200


def test_what_json_can_say_is_what_python_reads() -> None:
    value = {
        "a": [1, -2.5, True, None, "ü\n", {}],
        "b": {"c": 2**63 - 1, "d": -(2**63), "e": 1e308},
    }
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


def test_bytes_of_paths_that_are_no_text_are_kept() -> None:
    data = json.dumps({"folder": "a\udcff"}).encode()
    assert parse_object(data, has_paths=True).text("folder") == "a\udcff"
    with pytest.raises(BadFieldError):
        parse(json.dumps("\ud800").encode(), has_paths=True)


READ: dict[str, tuple[Callable[[Fields], Any], Any, list[Any]]] = {
    "text": (lambda f: f.text("x", 3), "abc", ["abcd", 1, None, ["a"], {}]),
    "boolean": (lambda f: f.boolean("x"), True, [1, 0, "true", None]),
    "integer": (lambda f: f.integer("x", 1, 9), 9, [0, 10, 5.0, True, "5", None, [5]]),
    "integers": (lambda f: f.integers("x", 0, 9, 2), (1, 2), [[1, 2, 3], [10], [True], ["1"], 1]),
    "number": (lambda f: f.number("x", 0, 1), 1.0, [1.5, -0.1, True, "1", None]),
    "any number": (lambda f: f.number("x"), -2.5, [2e30, -1e308]),
    "numbers": (lambda f: f.numbers("x", 2), (1.0, 2.5), [[1, 2, 3], [1e31], [True], "12"]),
    "choice": (lambda f: f.choice("x", "a", "b"), "b", ["c", 1, ["a"], None]),
    "texts": (lambda f: f.texts("x", 2), ("a", "b"), [["a"] * 3, [1], "ab", ["a" * 70_000]]),
    "pair": (lambda f: f.pair("x", 9), (1, 9), [[1], [1, 2, 3], [0, 1], [1, 10], [1.0, 2], "12"]),
    "shape": (lambda f: f.shape("x", 9), (1, 2, 9), [[1, 2], [1, 2, 10], [True, 1, 1], None]),
    "lists": (lambda f: f.lists("x", 1), [[1]], [[[]], [[1, 2]], [1], {}]),
    "sha256": (lambda f: f.sha256("x"), "0f" * 32, ["0F" * 32, "0" * 63, "0" * 65, "g" * 64, 0]),
    "path": (
        lambda f: f.path("x"),
        "1/model.onnx",
        ["", ".", "/", "/etc", "..", "a/../b", "C:\\x", "c:x", "x" * 300, "x/" * 3000, 1],
    ),
    "text table": (lambda f: f.text_table("x"), {"a": "b"}, [{"a": 1}, ["a"], "a"]),
    "number table": (lambda f: f.number_table("x"), {"a": 1.0}, [{"a": "1"}, {"a": True}, []]),
}


@pytest.mark.parametrize("kind", READ)
def test_a_value_is_what_its_reader_asks_for(kind: str) -> None:
    read, good, bad = READ[kind]
    assert read(Fields({"x": json.loads(json.dumps(good))}, "a.")) == good
    for value in [*bad, *([] if kind == "boolean" else [False])]:
        with pytest.raises(BadFieldError, match=r"`a\.x"):
            read(Fields({"x": value}, "a."))
    with pytest.raises(BadFieldError, match=r"`a\.x`"):
        read(Fields({}, "a."))
