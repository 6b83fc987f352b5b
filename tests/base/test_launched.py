"""What a launcher tells a process."""

import re

import pytest

from vggspec.base.launched import Launched, launched

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "given", [{}, {"RANK": "0"}, {"WORLD_SIZE": "1"}, {"RANK": "gold"}, {"RANK": "0"} | MEETING]
)
def test_a_process_alone(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert launched() is None


def test_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "2", "WORLD_SIZE": "4", **MEETING}.items():
        monkeypatch.setenv(name, value)
    assert launched() == Launched(rank=2, size=4, local_rank=0, local_size=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4 and RANK is not set"),
        ({"RANK": "1"}, "RANK is 1 and WORLD_SIZE is not set"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK is '4' and must be from 0 to 3"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
    ],
)
def test_half_of_a_launcher(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the processes would do all of the work and write the same files."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(said)):
        launched()
