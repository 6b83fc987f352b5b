"""``vggspec doctor`` names what is here and what is not."""

import json
from importlib import metadata

import pytest

from tests.cli.run import vggspec
from vggspec.cli import doctor, run


def test_it_lists_versions() -> None:
    done = vggspec("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert found["torch"]["version"] == metadata.version("torch")
    assert found["lark"]["version"] == metadata.version("lark")


def test_what_is_missing_has_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda names: None if "torch" in names else real(names))
    assert run(["doctor"]) == 0
    assert 'pip install "vggspec[train]"' in capsys.readouterr().out
    monkeypatch.setattr(doctor, "_version", lambda names: None)
    assert run(["doctor"]) == 3
