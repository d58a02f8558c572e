"""The head that is written for each phrase: against a loop and a grouped convolution, and how it starts."""

import pytest
import torch
from torch.nn.functional import conv2d, linear, relu

from mmmed.segmentation.dynamic_head import DynamicHead, apply_networks, count_numbers, split_numbers


def case(m=3, width=8, space=(5, 4), dim=6, pooled=4):
    draw = torch.Generator().manual_seed(0)
    shapes = ((m, width, *space), (m, dim), (m, pooled))
    return [torch.randn(*shape, generator=draw) for shape in shapes]


def slow(features, numbers, layers):
    """Phrase by phrase, pixel by pixel, number by number."""
    answers = []
    for row, written in zip(features, numbers, strict=True):
        width, given = len(row), written.tolist()
        outs = [width] * (layers - 1) + [1]
        weights = [torch.tensor([[given.pop(0) for _ in range(width)] for _ in range(out)]) for out in outs]
        biases = [torch.tensor([given.pop(0) for _ in range(out)]) for out in outs]
        pixels = row.flatten(1).T
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            pixels = linear(relu(pixels) if index else pixels, weight, bias)
        assert not given
        answers.append(pixels.T.reshape(1, *row.shape[1:]))
    return torch.stack(answers)


@pytest.mark.parametrize("space", [(5, 4), (2, 3, 4)])
@pytest.mark.parametrize(("width", "layers"), [(8, 3), (4, 2), (3, 1)])
def test_it_equals_a_loop_over_phrases(space, width, layers):
    features, query, pooled = case(width=width, space=space)
    head = DynamicHead(6, 4, width, layers, space=len(space))
    wanted = slow(features, head.write(query, pooled), layers)
    torch.testing.assert_close(head(features, query, pooled), wanted, atol=1e-5, rtol=1e-5)


def test_the_same_numbers_in_one_grouped_convolution_give_the_same_logits():
    # The form of the two papers: all phrases side by side as channels of one picture.
    features, _, _ = case()
    numbers = torch.randn(3, 153, generator=torch.Generator().manual_seed(1))
    parts = numbers.split([64, 64, 8, 8, 8, 1], dim=1)
    rows = features.reshape(1, 24, 5, 4)
    for index, out in enumerate((8, 8, 1)):
        weight = parts[index].reshape(3 * out, 8, 1, 1)
        rows = conv2d(relu(rows) if index else rows, weight, parts[3 + index].flatten(), groups=3)
    torch.testing.assert_close(apply_networks(features, numbers, 3), rows.reshape(3, 1, 5, 4))


def test_width_8_and_three_layers_are_153_numbers():
    assert DynamicHead(6, 4).numbers == count_numbers(8, 3) == 153
    weights, biases = split_numbers(torch.arange(153.0)[None], 8, 3)
    assert [tuple(weight.shape[1:]) for weight in weights] == [(8, 8), (8, 8), (1, 8)]
    assert [bias.flatten().tolist() for bias in biases][2] == [152.0]


def test_by_hand_one_layer_is_a_weighted_sum_of_the_channels():
    features = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]]]])  # two channels, two pixels
    assert apply_networks(features, torch.tensor([[3.0, 0.5, 7.0]]), 1).flatten().tolist() == [15.0, 23.0]


def test_a_phrase_is_answered_alone():
    head, (features, query, pooled) = DynamicHead(6, 4), case()
    together = head(features, query, pooled)
    for i in range(3):
        one = slice(i, i + 1)
        torch.testing.assert_close(head(features[one], query[one], pooled[one]), together[one])


def test_swapping_the_words_swaps_the_answers():
    head, (features, query, pooled) = DynamicHead(6, 4), case(m=2)
    same = (features[:1].expand(2, -1, -1, -1), pooled[:1].expand(2, -1))
    answers, swapped = head(same[0], query, same[1]), head(same[0], query.flip(0), same[1])
    torch.testing.assert_close(swapped, answers.flip(0))
    assert (answers[0] - answers[1]).abs().max() > 1e-3


def test_the_first_logits_are_neither_flat_nor_huge_whatever_the_widths():
    for dim, pooled in ((6, 4), (768, 256)):
        spreads = []
        for _ in range(20):
            logits = DynamicHead(dim, pooled)(*case(m=8, space=(8, 8), dim=dim, pooled=pooled))
            spreads.append(logits.flatten(1).std(1).median())
        assert 0.02 < torch.stack(spreads).median() < 2


def test_gradients_reach_every_number_the_query_and_the_picture():
    head, inputs = DynamicHead(6, 4), [item.requires_grad_() for item in case(m=16)]
    head(*inputs).square().mean().backward()
    assert all(item.grad.abs().sum() > 0 for item in (*inputs, head.controller.bias))
    assert (head.controller.weight.grad.abs().sum(1) > 0).sum() > 100


def test_no_phrase_at_all_gives_no_logits():
    assert DynamicHead(6, 4)(*case(m=0)).shape == (0, 1, 5, 4)


def test_it_learns_which_channel_each_word_means():
    # Word k stands for "channel k is positive", for pictures of noise: 99 % of pixels are right.
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    head, words = DynamicHead(4, 1), torch.eye(4) * 2
    step = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(200):
        features, said = torch.randn(16, 8, 6, 6, generator=draw), torch.randint(4, (16,), generator=draw)
        logits = head(features, words[said], torch.zeros(16, 1)).squeeze(1)
        truth = features[torch.arange(16), said] > 0
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.float())
        step.zero_grad()
        loss.backward()
        step.step()
    assert ((logits > 0) == truth).float().mean() > 0.97


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 7}, "features should have shape .m channels=8 height width., got .3, 7, 5, 4."),
        ({"space": (2, 3, 4)}, "features should have shape"),
        ({"dim": 5}, "query should have shape .m=3 dim=6., got .3, 5."),
        ({"pooled": 5}, "pooled should have shape"),
    ],
)
def test_what_does_not_fit_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        DynamicHead(6, 4)(*case(**wrong))


def test_space_is_2_or_3():
    with pytest.raises(ValueError, match="number of axes in space"):
        DynamicHead(6, 4, space=1)
