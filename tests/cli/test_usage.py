"""Options that are given twice, of every command, and commands that there are not."""

from pathlib import Path

import click
import pytest

from vggspec.cli import COMMANDS, cli, run


def _command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def _options(name: str) -> list[click.Option]:
    return [one for one in _command(name).params if isinstance(one, click.Option)]


SINGLE = [
    (name, max(option.opts, key=len), option.nargs)
    for name in COMMANDS
    for option in _options(name)
    if not (option.multiple or option.is_flag or option.count)
]


@pytest.mark.parametrize(("name", "option", "numbers"), SINGLE)
def test_a_second_value_is_refused(
    name: str, option: str, numbers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything else is looked at: neither value is checked, no file is opened."""
    first, second = (["one"] * numbers, ["two"] * numbers)
    assert run([name, option, *first, "nothing.vgg", option, *second]) == 2
    said = capsys.readouterr().err
    assert f"{option} is given more than once, as `{' '.join(first)}` and" in said
    assert f"`{' '.join(second)}`; it takes one value" in said


def test_all_ways_to_write_an_option_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "x.vgg", "-oa", "--out=b"]) == 2
    assert "--out is given more than once, as `a` and `b`" in capsys.readouterr().err


def test_a_value_that_looks_like_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "x.vgg", "--layer", "--out", "--layer", "b"]) == 2
    assert "--layer is given more than once, as `--out` and `b`" in capsys.readouterr().err


def test_flags_and_repeatable_options_may_be_repeated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["show", "--all", "--all", "nothing.vgg"]) == 1
    assert "no such spec file" in capsys.readouterr().err
    assert run(["compile", "nothing.vgg", "--keep-fp32", "a", "--keep-fp32", "b"]) != 2


def test_a_flag_and_its_opposite(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "nothing", "--data", "x", "--flip", "--no-flip"]) == 2
    assert "--flip and --no-flip are both given" in capsys.readouterr().err


def test_help_is_given_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "--at", "1x1", "--at", "2x2", "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_a_setting_that_is_changed_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "small.vgg"
    spec.write_text("input 8x8 RGB\nFC-2\nsoft-max\n")
    code = run(["train", str(spec), "--data", "x", "--set", "rate=1", "--set", "rate=2"])
    assert code == 1
    assert "`rate` is written twice" in capsys.readouterr().err
