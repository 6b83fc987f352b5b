"""``vggspec.compile`` and its options: one value, the flags, the keywords, what goes together."""

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import pytest

import vggspec
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from vggspec.base.diagnostic import ArgumentError
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions, EngineOptions, flag_of, flags
from vggspec.bundle.profile import Profile
from vggspec.cli.compile import command
from vggspec.cli.compile_flags import given
from vggspec.compiler.compiling import choose, contradiction

ENGINE = EngineOptions(
    flavour="tensorrt_rtx",
    profiles=(Profile((1, 32, 32), (2, 32, 43), (4, 32, 64)),),
    max_batch=3,
    tf32=True,
    capabilities=("8.6", "8.9"),
    level=5,
    workspace=64,
    threads=2,
    timing_cache="cache",
    timing_cache_mode="replay",
    version_compatible=True,
    hardware="ampere_plus",
    refittable=True,
    strip_weights=True,
    layer_info="names",
)
OPTIONS = CompileOptions(
    form="crop",
    contract="raw",
    average="posteriors",
    keep_map=True,
    pool="ceil",
    stride=2,
    layer="conv4_3",
    precision="fp16",
    keep_fp32=("conv1_1", "prob"),
    single_file=True,
    link_weights=True,
    protocol=True,
    flip=False,
    distance=True,
    factors="vgg.pth",
    calibrate="images",
    calibration_images=64,
    max_drop=0.5,
    engine=ENGINE,
)


def test_here_no_option_is_the_default() -> None:
    for of in (OPTIONS, ENGINE):
        for one in fields(of):
            assert getattr(of, one.name) != one.default, one.name
            assert flag_of(one) is not None or one.name == "engine"


@pytest.mark.parametrize("options", [OPTIONS, CompileOptions(), replace(OPTIONS, form="dense")])
def test_the_command_reads_the_flags_that_are_written(options: CompileOptions) -> None:
    context = command.make_context("compile", ["D.vgg", *flags(options)])
    choices = given(context, CompileOptions) | given(context, EngineOptions)
    assert choose(None, choices, trt=context.params["to_trt"]) == options


def test_keywords_are_the_fields_of_the_options() -> None:
    parameters = inspect.signature(vggspec.compile).parameters
    for kind in (CompileOptions, EngineOptions):
        for one in fields(kind):
            if one.name != "engine":
                assert parameters[one.name].default == one.default
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters.values())


def _engine(**given: object) -> EngineOptions:
    engine = choose(None, given, trt=True).engine
    assert engine is not None
    return engine


def test_options_and_keywords_go_together() -> None:
    options = CompileOptions(stride=16, engine=EngineOptions(tf32=True))
    chosen = choose(options, {"keep_map": True, "profiles": ["1x32x32,2x32x43,4x32x64"]})
    assert chosen == replace(
        options, keep_map=True, engine=EngineOptions(tf32=True, profiles=ENGINE.profiles)
    )
    for one in ("prob", ["prob"]):
        assert choose(None, {"keep_fp32": one}).keep_fp32 == ("prob",)
    (profile,) = _engine(profiles="1x32x32,2x32x43,4x32x64").profiles
    assert (profile,) == ENGINE.profiles
    assert _engine(capabilities="8.6").capabilities == ("8.6",)
    with pytest.raises(TypeError, match=r"no option `strde`; did you mean `stride`\?"):
        choose(None, {"strde": 3})
    with pytest.raises(
        ArgumentError, match="--tf32 says how an engine is built: it requires --trt"
    ):
        choose(None, {"tf32": True})
    for name, value in {"stride": 0, "form": "sparse", "keep_map": 1, "level": 9}.items():
        with pytest.raises(ArgumentError, match=f"`(engine.)?{name}` is"):
            choose(None, {name: value}, trt=name == "level")
    assert choose(None, {"timing_cache": Path("a/b")}, trt=True).engine == EngineOptions(
        timing_cache="a/b"
    )
    with refused("VGG601"):
        choose(None, {"profiles": ["1x3x32x32,1x3x32x32,1x3x32x32"]}, trt=True, channels=1)


@pytest.mark.parametrize(
    ("options", "nets", "words"),
    [
        ({"protocol": True, "contract": "raw"}, 2, "--input cannot be used with --protocol"),
        ({"protocol": True, "form": "crop"}, 1, "--crop cannot be used with --protocol"),
        ({"protocol": True, "engine": EngineOptions()}, 1, "--trt cannot be used with --protocol"),
        ({}, 2, "several nets are compiled into one graph only with --protocol"),
        ({"flip": True}, 1, "--flip says what a graph with --protocol does"),
        ({"layer": "fc6", "average": "scores"}, 1, "--average applies to class scores"),
        ({"engine": EngineOptions(), "single_file": True}, 1, "--single-file is for ONNX"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], nets: int, words: str) -> None:
    found = contradiction(CompileOptions(**options), nets=nets)
    assert found is not None
    assert found.startswith(words)


def test_what_goes_together() -> None:
    assert contradiction(CompileOptions(protocol=True, flip=True, stride=8), nets=3) is None
    assert contradiction(CompileOptions(protocol=True), nets=2, weights=1) is not None
    assert contradiction(replace(OPTIONS, protocol=False, flip=None, average=None)) is not None


def test_what_was_compiled_is_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "w.safetensors")
    compiled = vggspec.compile(
        tmp_path / "small.vgg",
        weights=tmp_path / "w.safetensors",
        out=tmp_path / "b",
        stride=4,  # the net's own
        keep_map=True,
        keep_fp32=["conv1_1", "relu1_1"],
        precision="fp16",
    )
    assert compiled.path == tmp_path / "b"
    assert open_bundle(compiled).manifest == compiled.manifest
    assert compiled.manifest.options == CompileOptions(
        form="dense",
        average="scores",
        keep_map=True,
        precision="fp16",
        keep_fp32=("conv1_1", "relu1_1"),
    )
    assert compiled.bundle.mean_from == ("spec",)
    with pytest.raises(ArgumentError, match="--flip says what a graph with --protocol does"):
        vggspec.compile(
            tmp_path / "small.vgg", weights=tmp_path / "w.safetensors", out="x", flip=True
        )


def test_a_module_with_trained_weights_is_in_eval_mode(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "w.safetensors")
    assert not vggspec.torch_module(tmp_path / "small.vgg", tmp_path / "w.safetensors").training
    assert vggspec.torch_module(tmp_path / "small.vgg").training


def test_source_is_exported(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    out = vggspec.export(tmp_path / "small.vgg", tmp_path / "net.py", form="dense", keep_map=True)
    assert out == tmp_path / "net.py"
    compile(out.read_text("utf-8"), "net.py", "exec")
    with refused("VGG303"):
        vggspec.export(tmp_path / "small.vgg", tmp_path / "net.py", keep_map=True)


def test_the_help_lists_options_only() -> None:
    context = click.Context(command, info_name="compile")
    text = command.get_help(context)
    assert text.startswith("Usage: compile [OPTIONS] SPEC...\n")
    assert "SPEC is a file" in text
    assert text.count("SPEC...") == 1
    options, _, engine = text.partition("\nTensorRT:\n")
    assert "--stride" in options
    assert "--max-batch" in engine
