"""What `pip install .` installs is all that the repository has; the tests run on the folders."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]

#: Read in the repository, not by the program.
LEFT_OUT = ("README.md", "*.pyc")


def folder_of(package: str) -> Path:
    """As the table `package-dir` has it, for the longest name in it."""
    names = package.split(".")
    for end in range(len(names), 0, -1):
        known = SETUP["package-dir"].get(".".join(names[:end]))
        if known is not None:
            return ROOT.joinpath(known, *names[end:])
    raise LookupError(package)


def test_every_folder_with_modules_is_a_package_that_is_installed() -> None:
    tops = {folder_of(package) for package in SETUP["package-dir"]}
    found = {path.parent for top in tops for path in top.rglob("*.py")}
    assert {folder_of(package) for package in SETUP["packages"]} == found | {ROOT / "specs"}


def test_every_other_file_of_a_package_is_installed() -> None:
    for package in SETUP["packages"]:
        patterns = ["*.py", *LEFT_OUT, *SETUP["package-data"].get(package, [])]
        for path in folder_of(package).iterdir():
            if path.is_file():
                assert any(fnmatch(path.name, each) for each in patterns), path
