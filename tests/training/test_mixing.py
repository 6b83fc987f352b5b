"""Mixed images and labels, against torchvision's ``MixUp`` and ``CutMix``."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.peers import torchvision_models
from tests.training.folders import tiny, write_folder
from tests.training.test_step import MEAN, batch, filled, gradients, stepper
from vggspec.base.recipe import TrainRecipe
from vggspec.training.augment import Crop, TrainCrops
from vggspec.training.batches import Batch, Loader, Normalise, collate_to_mix
from vggspec.training.dataset import open_data
from vggspec.training.images import Images
from vggspec.training.mixing import Mixture, mixture
from vggspec.training.order import Share, ShuffledBatches

RECIPES = {
    "mixup": TrainRecipe(mixup=0.4),
    "cutmix": TrainRecipe(cutmix=1.0),
    "both": TrainRecipe(mixup=0.4, cutmix=1.0),
}
SIZE = (16, 16)


def mixed(recipe: TrainRecipe, step: int) -> Mixture:
    found = mixture(recipe, SIZE, 0, step)
    assert found is not None
    return found


def with_others(one: Batch) -> Batch:
    """Each image with the one before it, the first with the last."""
    pixels, shifts, labels = (each.roll(1, 0) for each in one[:3])
    return one._replace(others=one._replace(pixels=pixels, shifts=shifts, labels=labels))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_images_and_labels_are_torchvisions(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the same draw, the same pictures, and the loss of the same soft labels."""
    torchvision_models()
    from torchvision.transforms import v2

    images, labels = torch.randn(8, 3, *SIZE), torch.randint(0, 3, (8,))
    logits = torch.randn(8, 3)
    library = (v2.MixUp if kind == "mixup" else v2.CutMix)(num_classes=3)
    for step in range(1, 30):
        ours = mixed(RECIPES[kind], step)
        params = {"lam": ours.own}
        if ours.box is not None:
            top, bottom, left, right = ours.box
            params = {"box": (left, top, right, bottom), "lam_adjusted": ours.own}  # type: ignore[dict-item]
        monkeypatch.setattr(library, "make_params", lambda _, found=params: dict(found))
        expected, soft = library(images, labels)
        found = ours.of(images.clone(), images.roll(1, 0))
        torch.testing.assert_close(found, expected)
        losses = [
            nn.functional.cross_entropy(logits, each, reduction="sum")
            for each in (labels, labels.roll(1, 0))
        ]
        mine = ours.own * losses[0] + (1 - ours.own) * losses[1]
        theirs = nn.functional.cross_entropy(logits, soft, reduction="sum")
        torch.testing.assert_close(mine, theirs)


def test_proportions_are_distributed_as_torchvisions() -> None:
    torchvision_models()
    from torchvision.transforms import v2

    torch.manual_seed(0)
    for kind, size in (("mixup", (16, 16)), ("cutmix", (40, 24))):
        recipe = RECIPES[kind]
        found = [mixture(recipe, size, 0, step) for step in range(3000)]
        ours = np.array([one.own for one in found if one is not None])
        if kind == "mixup":
            drawn = v2.MixUp(alpha=0.4, num_classes=3)
            theirs = np.array([drawn.make_params([])["lam"] for _ in range(3000)])
        else:
            cut = v2.CutMix(alpha=1.0, num_classes=3)
            image = torch.zeros(1, 3, *size)
            theirs = np.array([cut.make_params([image])["lam_adjusted"] for _ in range(3000)])
        levels = np.linspace(0.05, 0.95, 10)
        np.testing.assert_allclose(
            np.quantile(ours, levels), np.quantile(theirs, levels), atol=0.05
        )


def test_with_both_each_step_has_one_of_them() -> None:
    kinds = Counter(mixed(RECIPES["both"], step).box is None for step in range(2000))
    assert kinds[True] == pytest.approx(1000, abs=80)
    assert mixture(TrainRecipe(), SIZE, 0, 1) is None
    again = [mixed(RECIPES["both"], step) for step in range(50)]
    assert again == [mixed(RECIPES["both"], step) for step in range(50)]
    assert again != [mixture(RECIPES["both"], SIZE, 1, step) for step in range(50)]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_gradients_are_those_of_mixed_images_and_labels(recipe: TrainRecipe) -> None:
    """In parts of any size as for the whole; against plain PyTorch."""
    lowered = tiny(("dropout 0.2", "dropout 0"))
    recipe = replace(lowered.experiment.train, mixup=recipe.mixup, cutmix=recipe.cutmix)
    one = with_others(batch())
    weights = (0.5, 2.0, 1.0)
    for step in (1, 2, 3):
        ours = mixed(recipe, step)
        model = filled(lowered)
        normalise = Normalise(model.network.input, MEAN)
        assert one.others is not None
        images = ours.of(normalise(one), normalise(one.others))
        soft = ours.own * nn.functional.one_hot(one.labels, 3)
        soft = soft + (1 - ours.own) * nn.functional.one_hot(one.others.labels, 3)
        weighted = nn.CrossEntropyLoss(torch.tensor(weights), reduction="sum", label_smoothing=0.1)
        (weighted(model(images), soft) / 8).backward()
        expected = gradients(model)
        for at_a_time in (8, 3):
            mine = stepper(filled(lowered), replace(recipe, smooth_labels=0.1), at_a_time, weights)
            mine.add_gradients(one, 8, step)
            for name, gradient in gradients(mine.model).items():
                torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_an_unreadable_image_leaves_the_next_one_alone() -> None:
    def crop(number: int) -> Crop:
        return Crop(np.full((2, 2, 3), number, np.uint8), np.zeros(3, np.float32), number, number)

    unread = SimpleNamespace(name="bad", why="damaged")
    found = [crop(3), crop(0), unread, crop(2), crop(3)]
    (one,) = collate_to_mix(found)  # type: ignore[arg-type]
    assert one.labels.tolist() == [0, 2, 3]
    assert one.others is not None
    assert one.others.labels.tolist() == [3, 2, 2]
    (none,) = collate_to_mix([])
    assert len(none.labels) == 0


def joined(parts: list[Batch]) -> list[Tensor]:
    others = [part.others for part in parts if part.others is not None and len(part.labels)]
    own = [part for part in parts if len(part.labels)]
    return [torch.cat(each) for each in (*zip(*[p[:4] for p in own], strict=True),
                                         *zip(*[o[:3] for o in others], strict=True))]  # fmt: skip


@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (3, 0), (7, 0)])
def test_ranks_and_workers_mix_the_same_images(tmp_path: Path, ranks: int, workers: int) -> None:
    lowered = tiny()
    data = open_data(write_folder(tmp_path, train=7), lowered.network)
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"")
    recipe = replace(
        lowered.experiment.train, mixup=0.4, classes_balanced=True, crop_pad=2, erase=0.5
    )
    image = lowered.network.input

    def batches(share: Share, workers: int) -> list[Batch]:
        images = Images(data.train, "RGB", recipe.scale, are_kept=False)
        crops = TrainCrops(images, image, recipe, np.eye(3), seed=1)
        labels = data.train.labels
        order = ShuffledBatches(len(images), 8, 1, share, balanced=labels, follow=True)
        loader = Loader(crops, order, workers, torch.device("cpu"), are_mixed=True)
        found = [one for (one,) in loader]
        loader.close()
        return found

    whole = batches(Share(), 0)
    parts = zip(*[batches(Share(rank, ranks), workers) for rank in range(ranks)], strict=True)
    for one, shared in zip(whole, parts, strict=True):
        for mine, theirs in zip(joined([one]), joined(list(shared)), strict=True):
            assert torch.equal(mine, theirs)
        lost = [bad.name for part in shared for bad in part.unread]
        assert lost == [bad.name for bad in one.unread]
