"""What a mask costs: against slow forms, by hand, at the ends of the numbers, and where Dice is silent."""

import math

import pytest
import torch

from mmmed.losses.masks import deep_supervision, dice_loss, mask_loss, pixel_loss, presence_loss

SIZES = [(1, 6, 5), (1, 2, 6, 4), (6, 5)]
each_size = pytest.mark.parametrize("size", SIZES)


def case(size=(1, 6, 5), m=3):
    draw = torch.Generator().manual_seed(0)
    target = (torch.rand(m, *size, generator=draw) < 0.3).float()
    present = torch.tensor([True, False, True])[:m]
    target[~present] = 0
    return torch.randn(m, *size, generator=draw) * 2, target, present


def slow(logits, target, present, bce=2.0, dice=0.5):
    """Row by row and pixel by pixel, in Python numbers."""
    costs = []
    for row, truth, there in zip(logits, target, present, strict=True):
        chance = [1 / (1 + math.exp(-x)) for x in row.flatten().tolist()]
        wanted = truth.flatten().tolist()
        pairs = list(zip(chance, wanted, strict=True))
        entropy = -sum(math.log(p) if t else math.log(1 - p) for p, t in pairs) / len(pairs)
        overlap = sum(p * t for p, t in pairs)
        lost = 1 - (2 * overlap + 1) / (sum(chance) + sum(wanted) + 1)
        costs.append(bce * entropy + dice * lost * bool(there))
    return torch.tensor(costs)


@each_size
def test_it_equals_a_loop_over_pixels(size):
    logits, target, present = case(size)
    torch.testing.assert_close(mask_loss(logits, target, present), slow(logits, target, present))
    weighed = mask_loss(logits, target, present, bce=1.0, dice=3.0)
    torch.testing.assert_close(weighed, slow(logits, target, present, 1.0, 3.0))


def test_by_hand_dice_of_four_pixels():
    # Drawn: 1 1 0 0, wanted: 0 1 1 0. Overlap 1, so 1 - (2 + 1) / (2 + 2 + 1) = 0.4.
    sure = torch.tensor([[[99.0, 99.0], [-99.0, -99.0]]])
    wanted = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert dice_loss(sure, wanted).item() == pytest.approx(0.4)
    assert pixel_loss(torch.zeros(1, 2, 2), wanted).item() == pytest.approx(math.log(2))


@each_size
def test_the_perfect_answer_costs_nothing(size):
    _, target, present = case(size)
    perfect = (target * 2 - 1) * 200
    assert not mask_loss(perfect, target, present).any()
    assert not presence_loss((present * 2.0 - 1) * 200, present).any()


def test_perfect_coarse_drawings_cost_nothing_even_where_pixels_are_shared():
    _, target, present = case((1, 8, 8))
    share = torch.nn.functional.avg_pool2d(target, 4)
    assert ((share > 0) & (share < 1)).any()
    cost = deep_supervision([torch.logit(share).clamp(-90, 90)], target, present)
    torch.testing.assert_close(cost, torch.zeros(3), atol=1e-6, rtol=0)
    off = deep_supervision([torch.logit(share).clamp(-90, 90) + 0.3], target, present)
    assert (off[present] > 1e-3).all()  # and nothing else does


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_give_finite_losses_and_gradients(size, dtype):
    _, target, present = case()
    for sign in (1, -1):
        logits = torch.full_like(target, sign * min(size, 6e4 if dtype == torch.float16 else size))
        logits = logits.to(dtype).requires_grad_()
        cost = mask_loss(logits, target, present) + deep_supervision([logits], target, present)
        cost.sum().backward()
        assert cost.isfinite().all()
        assert logits.grad.isfinite().all()
        assert cost.dtype == torch.float32


def test_a_volume_in_half_precision_is_counted_in_full():
    # 2^18 voxels of probability 1: float16 ends at 65504.
    logits = torch.full((1, 64, 64, 64), 50.0, dtype=torch.float16)
    assert dice_loss(logits, torch.ones(1, 64, 64, 64, dtype=torch.bool)).item() == 0


@each_size
def test_a_phrase_costs_the_same_alone(size):
    logits, target, present = case(size)
    together = mask_loss(logits, target, present)
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(mask_loss(logits[one], target[one], present[one]), together[one])


def test_an_absent_thing_is_asked_for_by_the_pixels_alone():
    logits, target, present = case()
    absent = ~present
    assert torch.equal(mask_loss(logits, target, present, bce=0.0)[absent], torch.zeros(1))
    assert (mask_loss(logits, target, present)[absent] == 2 * pixel_loss(logits, target)[absent]).all()


def test_steps_along_the_gradient_draw_the_target():
    logits, target, present = case()
    logits.requires_grad_()
    for _ in range(300):
        (slope,) = torch.autograd.grad(mask_loss(logits, target, present).sum(), logits)
        logits = logits.detach().sub_(5 * slope).requires_grad_()
    assert torch.equal(logits > 0, target > 0)


def test_soft_dice_is_least_at_the_share_itself():
    # The usual product form would rather see 1 for every share above a half.
    share = torch.full((1, 4), 0.6)
    costs = [dice_loss(torch.logit(torch.full((1, 4), p)), share).item() for p in (0.5, 0.6, 0.7, 0.99)]
    assert min(costs) == costs[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("sizes", [[(4, 4), (2, 2)], [(3, 5)]])
def test_coarse_targets_are_averages_of_the_fine_one(sizes):
    _, target, present = case((1, 8, 8))
    coarse = [torch.zeros(3, 1, *size) for size in sizes]
    wanted = 0
    for logits in coarse:
        share = torch.nn.functional.adaptive_avg_pool2d(target, logits.shape[2:])
        inner = share.clamp(1e-9, 1 - 1e-9)
        entropy = -(inner * inner.log() + (1 - inner) * (1 - inner).log()).flatten(1).mean(1)
        wanted = wanted + mask_loss(logits, share, present) - 2 * entropy
    torch.testing.assert_close(deep_supervision(coarse, target, present), wanted / len(sizes))


def test_volumes_are_supervised_at_coarse_sizes_too_and_none_costs_nothing():
    _, target, present = case((1, 2, 6, 4))
    assert deep_supervision([torch.zeros(3, 1, 1, 3, 2)], target, present).shape == (3,)
    assert torch.equal(deep_supervision([], target, present), torch.zeros(3))


def test_no_phrase_costs_an_empty_row():
    nothing = torch.zeros(0, 1, 4, 4)
    assert mask_loss(nothing, nothing, torch.zeros(0, dtype=torch.bool)).shape == (0,)


def test_what_does_not_fit_is_named():
    logits, target, present = case()
    with pytest.raises(ValueError, match=r"same shape, got .3, 1, 6, 5. and .3, 6, 5.. Bring the target"):
        mask_loss(logits, target[:, 0], present)
    with pytest.raises(ValueError, match=r"present should have shape .m=3., got .2."):
        mask_loss(logits, target, present[:2])
    with pytest.raises(ValueError, match="coarse logits should have shape"):
        deep_supervision([logits[:, 0]], target, present)
