"""The cache: what is remembered comes back, and nothing about it is ever an error."""

from pathlib import Path

import pytest

from vggspec.data.cache import recall, remember


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vggspec"


def test_what_is_remembered_comes_back(folder: Path) -> None:
    value = {"mean": [0.1, 1e-300], "name": "\udcff ü"}
    assert recall("this", ["a", 1]) is None
    remember("this", ["a", 1], value)
    remember("this", ["a", 2], "other")
    assert recall("this", ["a", 1]) == value
    assert recall("this", ["a", 2]) == "other"
    assert recall("that", ["a", 1]) is None
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"key": 1}', b"[" * 100_000])
def test_a_damaged_file_is_nothing(folder: Path, content: bytes) -> None:
    remember("this", ["a"], 1)
    next(folder.iterdir()).write_bytes(content)
    assert recall("this", ["a"]) is None
    remember("this", ["a"], 2)
    assert recall("this", ["a"]) == 2


def test_a_file_of_another_key_is_nothing(folder: Path) -> None:
    remember("this", ["a"], 1)
    first = next(folder.iterdir())
    content = first.read_bytes()
    remember("this", ["b"], 2)
    (other,) = set(folder.iterdir()) - {first}
    other.write_bytes(content)
    assert recall("this", ["b"]) is None


def test_no_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # so no folder can be made there
    remember("this", ["a"], 1)
    assert recall("this", ["a"]) is None


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    remember("this", ["a"], 1)
    assert [path.name for path in (tmp_path / ".cache").iterdir()] == ["vggspec"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert recall("this", ["a"]) == 1


def test_nobody_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", refuse)
    remember("this", ["a"], 1)
    assert recall("this", ["a"]) is None
