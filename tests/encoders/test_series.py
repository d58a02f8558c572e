import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmmed.encoders.series import SeriesEncoder
from mmmed.types import Number, Series


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SeriesEncoder(3, dim=16).eval()


def series(steps=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    times = -torch.rand(2, steps, generator=draw).sort(1, descending=True).values
    known = torch.rand(2, steps, 3, generator=draw) < 0.6
    known[:, :, 0] |= ~known.any(2)
    return times, torch.randn(2, steps, 3, generator=draw), known


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(5)))
def test_the_order_of_the_steps_means_nothing_their_times_do(encoder, order):
    times, values, known = series()
    order = list(order)
    shuffled = encoder(times[:, order], values[:, order], known[:, order]).values
    torch.testing.assert_close(shuffled, encoder(times, values, known).values, atol=1e-5, rtol=1e-4)
    if order != sorted(order):
        other = encoder(times, values[:, order], known[:, order]).values
        assert not torch.allclose(other, encoder(times, values, known).values, atol=1e-4)


def test_a_step_without_any_value_is_padding_wherever_it_stands(encoder):
    times, values, known = series()
    gap = torch.tensor([0, 1, 2, 2, 3, 4])  # step 2 twice, once emptied
    emptied = known[:, gap].clone()
    emptied[:, 2] = False
    torch.testing.assert_close(
        encoder(times[:, gap], values[:, gap], emptied).values,
        encoder(times, values, known).values,
        atol=1e-6,
        rtol=1e-5,
    )


def test_columns_that_are_padding_in_every_row_cost_nothing(encoder):
    seen = []
    hook = encoder.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    times, values, known = series()
    encoder(
        *(
            nn.functional.pad(item, (0, 0, 0, 90) if item.ndim == 3 else (0, 90))
            for item in (times, values, known)
        )
    )
    hook.remove()
    assert seen == [5]


def test_a_channel_that_was_not_measured_adds_exactly_nothing(encoder):
    """The step is the sum over the channels that were: compared with that sum, written out."""
    times, values, known = series()
    steps = encoder._steps(times, values, known, known.any(2))
    row, step = 1, 2
    expected = encoder.time(times[row, step])
    for channel in range(3):
        if known[row, step, channel]:
            expected = (
                expected + values[row, step, channel] * encoder.slopes[channel] + encoder.names[channel]
            )
    torch.testing.assert_close(steps[row, step], expected)


def test_with_tokens_every_step_has_its_own():
    times, values, known = series()
    known[1, 3:] = False
    network = SeriesEncoder.from_schema(
        Series("vitals", channels=(Number("a"), Number("b"), Number("c"))), dim=16, tokens=True
    ).eval()
    tokens = network(times, values, known)
    assert tokens.values.shape == (2, 5, 16)
    assert tokens.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert tokens.values[1, 3:].eq(0).all()


def test_wrong_input_is_named(encoder):
    times, values, known = series()
    with pytest.raises(
        ValueError, match=r"values should have shape \[n steps channels=3\].*schema lists 3 channels"
    ):
        encoder(times, values[..., :2], known[..., :2])
    with pytest.raises(ValueError, match=r"times should have shape \[n=2 steps=5\]"):
        encoder(times[:, :4], values, known)
    with pytest.raises(ValueError, match="Leave rows without a series out"):
        encoder(times, values, known & torch.tensor([True, False]).view(2, 1, 1))
    with pytest.raises(ValueError, match="Leave rows without a series out"):
        encoder(times, values, torch.zeros_like(known))


def test_it_learns_whether_a_value_rose_or_fell():
    """Steps at random times in random order, half of the values missing, one mean for both classes."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)

    def records(count):
        times = -torch.rand(count, 8, generator=draw)
        rises = torch.rand(count, generator=draw) < 0.5
        slope = torch.where(rises, 1.0, -1.0).unsqueeze(1)
        values = 3 * slope * (times - times.mean(1, keepdim=True)) + 0.3 * torch.randn(
            count, 8, generator=draw
        )
        known = torch.rand(count, 8, 1, generator=draw) < 0.6
        known[:, :3] = True
        return (times, values.unsqueeze(2), known), rises.float()

    encoder, head = SeriesEncoder(1, dim=32), nn.Linear(32, 1)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    given_, label = records(300)
    for _ in range(15):
        for rows in torch.arange(300).split(30):
            optimiser.zero_grad()
            logit = head(encoder(*(item[rows] for item in given_)).values[:, 0])[:, 0]
            nn.functional.binary_cross_entropy_with_logits(logit, label[rows]).backward()
            optimiser.step()
    encoder.eval()
    given_, label = records(300)
    with torch.no_grad():
        logit = head(encoder(*given_).values[:, 0])[:, 0]
    assert ((logit > 0) == label.bool()).float().mean() > 0.9
