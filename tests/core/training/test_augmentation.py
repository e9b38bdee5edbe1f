from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynloss_core.config import ConfigError
from dynloss_core.training import Augmentation, Member, Problem, Setup
from dynloss_core.training.problem.augmentation import augment, augmentation_draws, gather_augmented
from tests.cases import SMALL_SPIRALS, BytesConfig


def numbered(samples: int, channels: int, height: int, width: int) -> Tensor:
    """Images in which every pixel is another number."""
    shape = (samples, channels, height, width)
    return torch.arange(samples * channels * height * width, dtype=torch.float64).view(shape)


def draws_of(*draws: tuple[int, int, int]) -> Tensor:
    return torch.tensor(draws, dtype=torch.int16)


def gathered(images: Tensor, draws: Tensor, crop: int) -> Tensor:
    last = images.permute(0, 2, 3, 1).contiguous()
    return gather_augmented(last, torch.arange(len(images)), draws, crop).permute(0, 3, 1, 2)


both = pytest.mark.parametrize("operator", [augment, gathered])


@both
def test_the_middle_crop_is_the_image(operator) -> None:
    images = numbered(2, 3, 5, 7)
    assert torch.equal(operator(images, draws_of((2, 2, 0), (2, 2, 0)), 2), images)


@both
def test_a_mirror_swaps_left_and_right(operator) -> None:
    images = numbered(2, 3, 5, 7)
    found = operator(images, draws_of((0, 0, 1), (0, 0, 0)), 0)
    assert torch.equal(found[0], images[0].flip(-1))
    assert torch.equal(found[1], images[1])


@both
def test_a_crop_shifts_and_reflects_at_the_border(operator) -> None:
    image = numbered(1, 1, 4, 4)
    rows, columns = [2, 1, 0, 1], [1, 2, 3, 2]  # two pixels up from the top, one right of the left
    found = operator(image, draws_of((0, 3, 0)), 2)
    assert torch.equal(found[0, 0], image[0, 0][rows][:, columns])
    mirrored = operator(image, draws_of((0, 3, 1)), 2)
    assert torch.equal(mirrored, found.flip(-1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_a_batch_at_once_is_one_image_after_another(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (40, 3, 9, 6), generator=torch.Generator().manual_seed(1))
    rows = torch.randperm(40)[:25]
    draws = augmentation_draws(3, 1, 25, 5, flip=True)
    last = pixels.to(dtype).permute(0, 2, 3, 1).contiguous()
    found = gather_augmented(last, rows, draws, 5)
    assert found.dtype == dtype
    expected = augment(pixels[rows].double(), draws, 5)
    assert torch.equal(found.permute(0, 3, 1, 2).double(), expected)


def test_draws_are_uniform_and_a_function_of_seed_and_epoch() -> None:
    draws = augmentation_draws(0, 0, 9000, 4, flip=True)
    for axis in (0, 1):
        counts = draws[:, axis].long().bincount(minlength=9)
        assert counts.tolist() == pytest.approx([1000] * 9, abs=150)
    assert draws[:, 2].double().mean().item() == pytest.approx(0.5, abs=0.03)
    again = augmentation_draws.__wrapped__(0, 0, 9000, 4, flip=True)
    assert torch.equal(draws, again)
    for seed, epoch in ((0, 1), (1, 0)):
        assert not torch.equal(draws, augmentation_draws(seed, epoch, 9000, 4, flip=True))
    unmirrored = augmentation_draws(0, 0, 9000, 4, flip=False)
    assert torch.equal(unmirrored[:, :2], draws[:, :2])
    assert not unmirrored[:, 2].any()


def test_both_arms_see_the_same_and_epochs_differ() -> None:
    augmentation = Augmentation(crop=2, flip=True)
    problem = Problem(data=BytesConfig(), batch_size=8, augmentation=augmentation)  # type: ignore[arg-type]
    arms = Member(0.1, seed=5, period=4, amplitude=9.0), Member(0.3, seed=5), Member(0.3, seed=6)
    setup = Setup.build(problem, arms)
    epochs = []
    for epoch in range(2):
        steps = range(4 * epoch, 4 * epoch + 4)
        ours, partner, other = (
            torch.cat([setup.augmentation_draws(member, step) for step in steps])  # type: ignore[misc]
            for member in range(3)
        )
        assert torch.equal(ours, partner)
        assert not torch.equal(ours, other)
        epochs.append(ours)
    assert not torch.equal(*epochs)


def test_nothing_happens_by_default() -> None:
    problem = Problem(data=BytesConfig(), batch_size=8)  # type: ignore[arg-type]
    assert Setup.build(problem, [Member(0.1, 0)]).augmentation_draws(0, 0) is None


def test_refuses_what_cannot_be_augmented() -> None:
    with pytest.raises(ConfigError, match="spirals are not images"):
        Problem(data=SMALL_SPIRALS, augmentation=Augmentation(flip=True))
    with pytest.raises(ConfigError, match="-1 is negative"):
        Augmentation(crop=-1)
    with pytest.raises(ConfigError, match="8 pixels for images of 8 x 8"):
        Problem(data=BytesConfig(), augmentation=Augmentation(crop=8))  # type: ignore[arg-type]
