"""docs/api.md: every public name is there, as the code has it, and the examples run."""

import re
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import vggspec
from tests.api_page import generated, public_names
from tests.conftest import ROOT
from tests.nets import net, random_weights
from tests.training.folders import (
    LABELLING,
    TINY,
    TO_BOXES,
    picture,
    write_annotated,
    write_folder,
    write_masked,
)

PAGE = ROOT / "docs" / "api.md"
HEADING = re.compile(r"^### `(\w+)`$", re.MULTILINE)
PART = re.compile(r"(<!-- of (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_public_name_has_its_place_and_nothing_else_has() -> None:
    text = PAGE.read_text("utf-8")
    assert sorted(HEADING.findall(text)) == sorted(public_names())
    assert [name for _, name, _ in PART.findall(text)] == HEADING.findall(text)


def test_the_page_says_what_the_code_says(request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text("utf-8")
    made = PART.sub(lambda part: f"{part[1]}\n{generated(part[2])}\n{part[3]}", text)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(made, "utf-8")
        return
    assert made == text, "run pytest --update-golden and read the difference"


def test_every_function_has_an_example() -> None:
    text = PAGE.read_text("utf-8")
    examples = "\n".join(EXAMPLE.findall(text))
    functions = [name for name in public_names() if not isinstance(getattr(vggspec, name), type)]
    missing = [name for name in functions if f"vggspec.{name}(" not in examples]
    assert missing == []
    named = set(re.findall(r"\bvggspec\.(\w+)", text)) - {"vgg"}
    assert named <= {*public_names(), "studies"}


def test_public_objects_are_documented() -> None:
    assert set(vggspec.__all__) == {"__version__", *vggspec._MODULES}
    assert set(vggspec.__all__) <= set(dir(vggspec))
    for name in public_names():
        assert getattr(vggspec, name).__doc__, name


#: What cannot run here: a TensorRT engine needs its GPU, and the tables of the paper ImageNet.
NOT_RUN = ("vggspec.refit(", "vggspec.reproduce(", "trt=True")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in one folder with a few images, as in a notebook."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "images")
    write_annotated(tmp_path / "boxes")
    picture((210, 50, 40), (40, 50), 0).save("photo.jpg")
    (tmp_path / "tiny.vgg").write_text(TINY)
    boxes = TINY
    for old, new in (TO_BOXES, ("net tiny", "net finder")):
        boxes = boxes.replace(old, new)
    (tmp_path / "finder.vgg").write_text(boxes)
    random_weights(net(boxes), tmp_path / "finder.safetensors")
    write_masked(tmp_path / "masks", 1, 2)
    labelling = LABELLING.replace("RGB(std", "RGB(mean 120 115 100, std")
    (tmp_path / "labelling.vgg").write_text(labelling)
    random_weights(net(labelling), tmp_path / "labelling.safetensors")
    namespace: dict[str, object] = {}
    ran = 0
    for code in EXAMPLE.findall(PAGE.read_text("utf-8")):
        if any(words in code for words in NOT_RUN):
            compile(code, "docs/api.md", "exec")
            continue
        exec(compile(code, "docs/api.md", "exec"), namespace)
        ran += 1
        for name, value in namespace.items():
            if is_dataclass(value):
                assert len(repr(value)) <= 300, name
    assert ran > 15
