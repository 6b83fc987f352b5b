"""What TensorRT logs: kept, passed on, and cleaned."""

import logging

import pytest

from vggspec.runtime.tensorrt.messages import Heard, clean

CANCELED = """IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user
In next at /_src/optimizer/common/scopedProgressReporter.cpp:92)"""
NO_DRIVER = """[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError
at /_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient
for CUDA runtime version))"""
NO_TARGET = """Error Code 9: myelin ([pass.cpp:1500: run_passes] Cannot compile for target(s) sm75.
In compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CANCELED, "build canceled by user"),
        (NO_DRIVER, "CUDA driver version is insufficient for CUDA runtime version"),
        (NO_TARGET, "cannot compile for target(s) sm75"),
        ("Assertion failed:\n  a line", "assertion failed: a line"),
        (
            "IRuntime::deserialize: Error Code 1: Serialization (wrong. In f at /a/b.cpp:48)",
            "wrong",
        ),
        ("[a.cpp::f::250] Error Code 1: Cuda Runtime (In f at /a/b.cpp:250 (code 35: old))", "old"),
        ("x" * 200 + " " + "y" * 200, "x" * 200 + " …"),
        ("", ""),
        (" ", ""),
    ],
)
def test_messages_lose_their_places(text: str, words: str) -> None:
    assert clean(text) == words


def test_the_first_complaint_is_the_cause() -> None:
    heard = Heard()
    heard(1, "Serialization (wrong)")
    heard(1, "an echo")
    heard(2, "a warning")
    assert heard.told("") == "serialization (wrong)"
    assert heard.told("nothing") == "nothing"
    heard(1, " ")
    assert heard.told("it does not say why") == "it does not say why"
    heard(1, "earlier")
    heard.forget()
    assert heard.told("nothing") == "nothing"


def test_warnings_are_logged_but_for_one_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    heard(2, "The logger passed into createInferRuntime differs from one already registered")
    heard(2, "weights are subnormal")
    heard(1, "an error, which is raised")
    heard(3, "loaded")
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["weights are subnormal"]


def test_a_listener_hears_everything_until_it_stops() -> None:
    heard, said = Heard(), []
    with heard.listening(lambda severity, text: said.append((severity, text))):
        heard(2, "a warning")
        heard(4, "a detail")
    heard(2, "later")
    assert said == [(2, "a warning"), (4, "a detail")]
