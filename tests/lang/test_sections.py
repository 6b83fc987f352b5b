"""The ``train:`` and ``test:`` sections: each setting, its default, its mistakes."""

from dataclasses import asdict

import pytest

from vggspec.base.recipe import Experiment, FrozenPart, LayersFrom, TestProtocol, TrainRecipe
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source
from vggspec.compiler.lower import lower
from vggspec.lang import aliases
from vggspec.lang.parser import parse
from vggspec.lang.sections import SECTIONS, likely, sections_of


def _experiment(*settings: str, section: str = "train", input: str = "224x224") -> Experiment:
    lines = "".join(f"  {setting}\n" for setting in settings)
    text = f"input {input}\nFC-10\n{section}:\n{lines}"
    (spec,) = parse(Source("t.vgg", text)).specs
    return lower(spec).experiment


def _mistakes(setting: str, section: str = "train") -> list[tuple[str, int, str | None]]:
    """Code, column, help."""
    source = Source("t.vgg", f"FC-10\n{section}:\n  {setting}\n")
    found = []
    for report in check_source(source).reports:
        assert report.span is not None
        place = source.locate(report.span.start)
        assert place.line == 3
        found.append((report.what.code, place.column, report.what.help()))
    return found


def test_defaults_are_the_papers() -> None:
    """Sections 3.1 and 3.2."""
    found = _experiment()
    assert found == Experiment()
    assert asdict(found.train) == {
        "scale": (256, 256),
        "area": None,
        "crop_pad": 0,
        "flip": True,
        "randaugment": None,
        "erase": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "colour_shift": 0.1,
        "batch": 256,
        "optimiser": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "betas": (0.9, 0.999),
        "weight_decay": 5e-4,
        "clip_gradients": None,
        "average_weights": None,
        "smooth_labels": 0.0,
        "dropout": 0.5,
        "rate": 1e-2,
        "warm_up": 0,
        "schedule": "plateau",
        "decay": 10.0,
        "decay_at": (),
        "decays": 3,
        "patience": 5,
        "iterations": 370_000,
        "epochs": None,
        "no_better": None,
        "start": "normal",
        "start_std": 0.1,  # variance 1e-2
        "start_from": (),
        "frozen": (),
        "freeze_batch_norm": False,
        "rates_of": (),
        "data": None,
        "validate_on": None,
        "classes_balanced": False,
        "class_weights": (),
    }
    assert asdict(found.test) == {
        "scales": (256,),
        "dense": True,
        "crops": None,
        "flip": True,
        "average": "scores",
        "resize": "rounded",
    }


@pytest.mark.parametrize(
    ("setting", "fields"),
    [
        ("scale 384", {"scale": (384, 384)}),
        ("scale 256..512", {"scale": (256, 512)}),
        ("SCALE 256..512", {"scale": (256, 512)}),
        ("crop 224", {}),
        ("crop pad 4", {"crop_pad": 4, "scale": (224, 224)}),
        ("crop 224 pad 4", {"crop_pad": 4, "scale": (224, 224)}),
        ("crop pad 0", {}),
        ("scale 8%..100% of area", {"area": (0.08, 1.0)}),
        ("Scale 12.5% OF Area", {"area": (0.125, 0.125)}),
        ("randaugment 2 magnitude 9", {"randaugment": (2, 9)}),
        ("randaugment off", {}),
        ("erase 0.25", {"erase": 0.25}),
        ("mixup 0.2", {"mixup": 0.2}),
        ("cutmix 1", {"cutmix": 1.0}),
        ("validate on 10%", {"validate_on": 0.1}),
        ("validate off", {}),
        ("classes balanced", {"classes_balanced": True}),
        ("classes off", {}),
        ("class weights balanced", {"class_weights": "balanced"}),
        ("class weights off", {}),
        (
            'class weights Cat 2, "great tit" .5, "off" 3,n01440764 1',
            {
                "class_weights": (
                    ("Cat", 2.0),
                    ("great tit", 0.5),
                    ("off", 3.0),
                    ("n01440764", 1.0),
                )
            },
        ),
        ("flip", {}),
        ("flip on", {}),
        ("flip off", {"flip": False}),
        ("colour-shift 0", {"colour_shift": 0.0}),
        ("color-shift 0.2", {"colour_shift": 0.2}),
        ("batch 64", {"batch": 64}),
        ("momentum .5", {"momentum": 0.5}),
        ("weight-decay 1e-5", {"weight_decay": 1e-5}),
        ("dropout 0", {"dropout": 0.0}),
        ("rate 1E-3", {"rate": 1e-3}),
        ("decay 5", {"decay": 5.0}),
        ("decay 10 on plateau, 1 time", {"decays": 1}),
        ("decay 10 on plateau 4 times", {"decays": 4}),
        ("decay 2 on plateau of 1 epoch", {"decay": 2.0, "patience": 1}),
        ("decay 10 on plateau of 7 epochs, 2 times", {"patience": 7, "decays": 2}),
        ("decay 10 on plateau, 0 times", {"decays": 0}),
        ("decay cosine", {"schedule": "cosine"}),
        ("decay 5 at 30 epochs", {"schedule": "epochs", "decay": 5.0, "decay_at": (30,)}),
        ("Decay 10 AT 30, 60,80 Epochs", {"schedule": "epochs", "decay_at": (30, 60, 80)}),
        ("warm up 5 epochs", {"warm_up": 5}),
        ("warm up 1 epoch", {"warm_up": 1}),
        ("nesterov", {"nesterov": True}),
        ("optimiser sgd", {}),
        ("optimiser AdamW", {"optimiser": "adamw", "rate": 1e-3, "weight_decay": 1e-2}),
        (
            "optimiser adamw, betas 0.8 0.99",
            {"optimiser": "adamw", "betas": (0.8, 0.99), "rate": 1e-3, "weight_decay": 1e-2},
        ),
        ("clip gradients 1", {"clip_gradients": 1.0}),
        ("average weights 0.999", {"average_weights": 0.999}),
        ("smooth labels .1", {"smooth_labels": 0.1}),
        ("stop when no better for 10 epochs", {"no_better": 10}),
        ("stop after 370K iterations", {}),
        ("stop after 1.5M iterations", {"iterations": 1_500_000}),
        ("stop after 1 iteration", {"iterations": 1}),
        ("stop after 74 epochs", {"iterations": None, "epochs": 74}),
        ("start normal", {}),
        ("start normal 0.01", {"start_std": 0.01}),
        ("start glorot", {"start": "glorot"}),
        ("start He", {"start": "he"}),
        ('start from "A.vgg"', {"start_from": (LayersFrom(path="A.vgg"),)}),
        (
            'start from "A.vgg": all but last FC',
            {"start_from": (LayersFrom(path="A.vgg", but_last_fc=1),)},
        ),
        ('start from "D" keras', {"start_from": (LayersFrom(path="D", source="keras"),)}),
        (
            'start from "D" Torchvision: all but last FC',
            {"start_from": (LayersFrom(path="D", but_last_fc=1, source="torchvision"),)},
        ),
        (
            'start from "A.vgg": ALL but last 2 fc',
            {"start_from": (LayersFrom(path="A.vgg", but_last_fc=2),)},
        ),
        (
            'start from "t.vgg:A": last 3 FC, first 4 conv',
            {"start_from": (LayersFrom(path="t.vgg:A", first_conv=4, last_fc=3),)},
        ),
        (
            'start from "A.vgg": first 4 CONV',
            {"start_from": (LayersFrom(path="A.vgg", first_conv=4),)},
        ),
        ('data "my images"', {"data": "my images"}),
    ],
)
def test_train_setting(setting: str, fields: dict[str, object]) -> None:
    train = _experiment(setting).train
    assert asdict(train) == asdict(TrainRecipe(**fields))  # type: ignore[arg-type]


def test_both_ends_may_be_written() -> None:
    train = _experiment("stop after 9 epochs", "stop when no better for 3 epochs").train
    assert (train.epochs, train.no_better) == (9, 3)


def test_adamw_has_rates_of_its_own_unless_they_are_written() -> None:
    train = _experiment("weight-decay 0.05", "optimiser adamw", "rate 3e-4").train
    assert (train.rate, train.weight_decay) == (3e-4, 0.05)


@pytest.mark.parametrize(
    ("settings", "help"),
    [
        (("optimiser adamw", "momentum 0.9"), "whose first number is its momentum"),
        (("nesterov", "optimiser adamw"), "leave one out"),
        (("momentum 0", "nesterov"), "write `momentum 0.9`"),
        (("stop after 5 epochs", "warm up 5 epochs"), "write a shorter `warm up`"),
        (("crop pad 4", "scale 8%..100% of area"), "leave one out"),
        (("class weights balanced", "classes balanced"), "leave one out"),
    ],
)
def test_contradictions_are_refused_at_the_later_one(settings: tuple[str, str], help: str) -> None:
    lines = "".join(f"  {setting}\n" for setting in settings)
    source = Source("t.vgg", f"FC-10\ntrain:\n{lines}")
    (report,) = check_source(source).reports
    assert report.what.code == "VGG409"
    assert report.span is not None
    assert source.locate(report.span.start).line == 4
    assert help in (report.what.help() or "")


def _trained(*settings: str) -> TrainRecipe:
    lines = "".join(f"  {setting}\n" for setting in settings)
    text = f"input 64x64\nconv3-8 BN as stem\nmaxpool\nconv3-8\nmaxpool\nFC-10\ntrain:\n{lines}"
    (spec,) = parse(Source("t.vgg", text)).specs
    return lower(spec).experiment.train


def test_frozen_layers_are_those_of_the_net() -> None:
    """Names of results stand for their layers, and capitals do not matter."""
    found = _trained("Freeze up to STEM", "after 3 epochs: free all", "freeze batch norm")
    assert found.frozen[0].up_to in ("bn1_1", "relu1_1", "stem")
    assert found.frozen[1] == FrozenPart(after=3, up_to=None)
    assert found.freeze_batch_norm
    later = _trained(
        "freeze up to pool2", "after 1 epoch: freeze up to pool1", "after 9 epochs: free all"
    )
    assert [part.write() for part in later.frozen] == [
        "freeze up to pool2", "after 1 epoch: freeze up to pool1", "after 9 epochs: free all",
    ]  # fmt: skip


@pytest.mark.parametrize("factor", ["x 10", "x10", "× 10", "X 1e1", "x 10.0"])
def test_rates_of_layers_add_up(factor: str) -> None:
    found = _trained("rate 0.1", f"rate of FC3, conv2_1 {factor}", "rate of stem x 0.5")
    assert found.rate == 0.1
    assert found.rates_of[:2] == (("fc3", 10.0), ("conv2_1", 10.0))
    assert found.rates_of[2][1] == 0.5


def test_several_starts_add_up_and_the_random_one_stays() -> None:
    train = _experiment("start he", 'start from "A.vgg": first 4 conv', 'start from "B.vgg"').train
    assert train.start == "he"
    assert [one.path for one in train.start_from] == ["A.vgg", "B.vgg"]


@pytest.mark.parametrize(
    ("setting", "fields"),
    [
        ("scale 256", {}),
        ("scale 256, 384, 512", {"scales": (256, 384, 512)}),
        ("dense", {}),
        ("dense off", {"dense": False}),
        ("crops 5x5", {"crops": 5, "dense": False}),
        ("crops 3 × 3", {"crops": 3, "dense": False}),
        ("flip off", {"flip": False}),
        ("average scores", {}),
        ("average posteriors", {"average": "posteriors"}),
        ("resize torchvision", {"resize": "torchvision"}),
        ("Resize Torchvision", {"resize": "torchvision"}),
        ("resize rounded", {}),
    ],
)
def test_test_setting(setting: str, fields: dict[str, object]) -> None:
    test = _experiment(setting, section="test").test
    assert test == TestProtocol(**fields)  # type: ignore[arg-type]


def test_dense_and_crops_together() -> None:
    test = _experiment("dense", "crops 5x5", section="test").test
    assert (test.dense, test.crops) == (True, 5)


@pytest.mark.parametrize(
    ("input", "train_scale", "test_scale"),
    [("224x224", 256, 256), ("28x28", 32, 32), ("231x231", 264, 264), ("32x64", 73, 73)],
)
def test_scales_follow_the_input(input: str, train_scale: int, test_scale: int) -> None:
    found = _experiment(input=input)
    assert found.train.scale == (train_scale, train_scale)
    assert found.test.scales == (test_scale,)


def test_test_scale_follows_the_training_scale() -> None:
    """Section 4.1: Q is S, or the middle of its range."""
    assert _experiment("scale 384").test.scales == (384,)
    assert _experiment("scale 256..512").test.scales == (384,)


@pytest.mark.parametrize(
    ("setting", "code", "column", "help"),
    [
        ("squiggle 1", "VGG401", 3, None),
        ("lr 0.01", "VGG401", 3, "write `rate 0.01`"),
        ("weight_decay 5e-4", "VGG401", 3, "write `weight-decay 5e-4`"),
        ("batchsize 64", "VGG401", 3, "write `batch 64`"),
        ("momentun 0.9", "VGG401", 3, "write `momentum 0.9`"),
        ("epochs 74", "VGG401", 3, "write `stop after 74 epochs`"),
        ("dense", "VGG401", 3, "it is a setting of `test:`: move it there"),
        ("batch", "VGG402", 8, "write it as in `batch 256`"),
        ("batch big", "VGG402", 9, "write it as in `batch 256`"),
        ("batch 2.5", "VGG402", 9, "write it as in `batch 256`"),
        ("batch 256 256", "VGG402", 13, "write it as in `batch 256`"),
        ("rate nan", "VGG402", 8, "write it as in `rate 1e-2`"),
        ("rate 1_0", "VGG402", 8, "write it as in `rate 1e-2`"),
        ("scale 256-512", "VGG402", 9, "write it as in `scale 256..512`"),
        ("stop after 74", "VGG402", 16, "write it as in `stop after 370K iterations`"),
        ("start xavier", "VGG402", 9, "write `start glorot`"),
        ("momentum 1", "VGG403", 12, None),
        ("batch 0", "VGG403", 9, None),
        ("decay 0.1", "VGG403", 9, None),
        ("stop after 0 epochs", "VGG403", 14, None),
        ("rate 1e999", "VGG403", 8, None),
        ("batch " + "9" * 90, "VGG403", 9, None),
        ("crop 256", "VGG405", 8, "leave `crop` out: it has the size of the input"),
        ("scale 200..512", "VGG406", 9, "write a scale (S) of 224 or more"),
        ('start from "A.vgg": first 0 conv', "VGG403", 29, None),
        ("data images", "VGG402", 8, 'write it as in `data "images"`'),
        (
            'start from "D" torchvison: all but last FC',
            "VGG402",
            18,
            'write it as in `start from "D" torchvision: all but last FC`',
        ),
        ("crop 200 pad 4", "VGG405", 8, "write `crop pad 4`: the crop has the size of the input"),
        ("crop pad 224", "VGG403", 8, None),
        ("crop 224 padding 4", "VGG402", 12, "write it as in `crop 224 pad 4`"),
        ("scale 8%..100%", "VGG402", 17, "write it as in `scale 8%..100% of area`"),
        ("scale 8..100%", "VGG402", 9, "write it as in `scale 8%..100% of area`"),
        ("scale 100%..8% of area", "VGG403", 9, None),
        ("scale 0%..100% of area", "VGG403", 9, None),
        ("validate on 0.1", "VGG402", 15, "write it as in `validate on 10%`"),
        ("validate on 100%", "VGG403", 15, None),
        ("val_split 10%", "VGG401", 3, "write `validate on 10%`"),
        ("classes equal", "VGG402", 11, "write it as in `classes balanced`"),
        ("class weights cat", "VGG402", 20, "write it as in `class weights cat 2, dog 0.5`"),
        ("class weights cat 2, cat 3", "VGG404", 24, "keep one of them"),
        ("class_weight balanced", "VGG401", 3, "write `class weights balanced`"),
        ("randaugment 2", "VGG402", 16, "write it as in `randaugment 2 magnitude 9`"),
        ("randaugment 2 magnitude 31", "VGG403", 27, None),
        ("erase 2", "VGG403", 9, None),
        ("random-resized-crop", "VGG401", 3, None),
        ("padding 4", "VGG401", 3, "write `crop pad 4`"),
        ("mixup_alpha 0.2", "VGG401", 3, "write `mixup 0.2`"),
    ],
)
def test_mistake(setting: str, code: str, column: int, help: str | None) -> None:
    ((found_code, found_column, found_help),) = _mistakes(setting)
    assert (found_code, found_column) == (code, column)
    if help is not None:
        assert found_help == help


@pytest.mark.parametrize(
    ("setting", "code", "column"),
    [
        ("scale 256 384", "VGG402", 13),
        ("scale 256,", "VGG402", 13),
        ("scale 128, 256", "VGG406", 9),
        ("crops 5x4", "VGG402", 9),
        ("crops 65x65", "VGG403", 9),
        ("average", "VGG402", 10),
        ("batch 2", "VGG401", 3),
    ],
)
def test_mistake_in_test(setting: str, code: str, column: int) -> None:
    ((found_code, found_column, _),) = _mistakes(setting, "test")
    assert (found_code, found_column) == (code, column)


def test_setting_twice_names_both_places() -> None:
    source = Source("t.vgg", "FC-10\ntrain:\n  batch 2\n  rate 1\n  batch 3\n")
    (report,) = check_source(source).reports
    assert report.what.code == "VGG404"
    assert report.span is not None
    assert source.slice(report.span) == "batch 3"
    assert [source.slice(other.span) for other in report.others] == ["batch 2"]


def test_one_mistake_does_not_hide_another() -> None:
    text = "FC-10\ntrain:\n  batch 0\n  lr 3\n  rate x\ntest:\n  crops 2\n"
    codes = [report.what.code for report in check_source(Source("t.vgg", text)).reports]
    assert codes == ["VGG403", "VGG401", "VGG402", "VGG402"]


#: Mistakes that are about the net and other settings: its size, `after` without `freeze`, layers.
OF_OTHER_LINES = {"VGG405", "VGG406", "VGG409", "VGG410"}
ALL = [(section, key) for section, keys in SECTIONS.items() for key in keys]


@pytest.mark.parametrize(("section", "key"), ALL)
def test_example_of_each_setting_can_be_written(section: str, key: str) -> None:
    codes = {code for code, *_ in _mistakes(SECTIONS[section][key].example, section)}
    assert codes <= OF_OTHER_LINES


ALIASES = [
    (section, alias, key) for section in SECTIONS for alias, key in aliases.ALIASES[section].items()
]


@pytest.mark.parametrize(("section", "alias", "key"), ALIASES)
def test_aliases_are_of_settings(section: str, alias: str, key: str) -> None:
    assert key in SECTIONS[section]
    assert alias not in SECTIONS[section]
    ((code, _, advice),) = _mistakes(alias, section)
    assert code == "VGG401"
    assert advice is not None


@pytest.mark.parametrize(("section", "key"), ALL)
@pytest.mark.parametrize(
    "rest",
    ["", "256", "= 256", "0.5", "50%", "0,5", "[256, 512]", "256-512", "off", "yes", "no", "0",
     "he_normal", "xavier", "random", "from B.vgg", "from B.vgg first 2 convs and last 1 FC",
     "10 every 5 epochs", "by 10", "0.1", "softmax", "images/train", "5", "50", "1,000 iterations",
     "after 10", "500K", "nonsense", "-1", "1e-4"],
)  # fmt: skip
def test_what_is_suggested_can_be_written(section: str, key: str, rest: str) -> None:
    """Whatever follows a setting's word: the help can be typed as it is."""
    for _, _, advice in _mistakes(f"{key} {rest}".strip(), section):
        if advice and advice.startswith(("write `", "write it as in `")):
            codes = {code for code, *_ in _mistakes(advice.split("`")[1], section)}
            assert codes <= OF_OTHER_LINES, advice


def test_words_of_other_lines() -> None:
    assert sections_of("Batch") == ("train",)
    assert sections_of("color-shift") == ("train",)
    assert sections_of("crops") == ("test",)
    assert sections_of("lr") == ("train",)
    assert sections_of("conv3-64") == ()
    assert likely("batch (64)") == "batch 64"
    assert likely("squiggle (64)") is None
