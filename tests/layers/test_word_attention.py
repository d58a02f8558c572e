"""Pixels that read words: against slow loops, and what padding, single words and single pixels do."""

import pytest
import torch
from torch import nn

from mmmed.layers.word_attention import (
    WordAttention,
    check_phrases,
    check_space,
    of_phrases,
    on_pixels,
    spread,
)
from mmmed.types import Tokens

WHICH = torch.tensor([1, 0, 1])


def case(pixels=12, lengths=(4, 1, 2)):
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    values = torch.randn(*mask.shape, 5, generator=draw)
    maps = torch.randn(2, 8, pixels, generator=draw)
    return maps, Tokens(values.masked_fill(~mask.unsqueeze(2), torch.nan), mask), WHICH


def slowly(attention, maps, words, which):
    """Phrase by phrase, pixel by pixel, over the real words only."""
    read = torch.zeros(len(which), maps.shape[1], maps.shape[2])
    for m, picture in enumerate(which.tolist()):
        queries = attention.query.weight @ maps[picture]
        centred = queries - queries.mean(1, keepdim=True)
        queries = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
        real = words.values[m][words.mask[m]]
        keys, values = attention.key(real), attention.value(real)
        for pixel in range(maps.shape[2]):
            scores = torch.stack([(queries[:, pixel] * key).sum() / 8**0.5 for key in keys])
            shares = scores.exp() / scores.exp().sum()
            read[m, :, pixel] = sum(share * value for share, value in zip(shares, values, strict=True))
    return read


def test_it_equals_a_slow_loop_over_phrases_pixels_and_words():
    attention, (maps, words, which) = WordAttention(8, 5), case()
    expected = slowly(attention, maps, words, which)
    torch.testing.assert_close(attention(maps, words, which), expected, atol=1e-5, rtol=0)


def test_shares_add_up_to_one_and_padding_has_none():
    maps, words, which = case()
    shares = WordAttention(8, 5).shares(maps, words, which)
    torch.testing.assert_close(shares.sum(1), torch.ones(3, 12))
    assert not shares.masked_select(~words.mask.unsqueeze(2)).any()


def test_a_single_word_is_read_alike_by_all_pixels_and_says_what_it_said_beside_padding():
    attention, (maps, words, which) = WordAttention(8, 5), case(lengths=(1, 1, 2))
    beside = attention(maps, words, which)[:2]
    alone = attention(maps, Tokens(words.values[:2, :1], words.mask[:2, :1]), which[:2])
    assert alone.shape == (2, 8, 1)
    torch.testing.assert_close(alone.expand_as(beside), beside, atol=1e-6, rtol=0)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)  # an instance norm here would give 0 for both


def test_a_phrase_without_a_word_reads_zeros():
    attention, (maps, words, which) = WordAttention(8, 5), case(lengths=(4, 0, 2))
    read = attention(maps, words, which)
    torch.testing.assert_close(read[1], attention.value.bias.unsqueeze(1).expand(8, 12))
    none = Tokens(words.values[:, :1], torch.zeros(3, 1, dtype=torch.bool))
    torch.testing.assert_close(attention(maps, none, which), attention.value.bias.expand(3, 8).unsqueeze(2))


def test_the_order_of_words_says_nothing_by_itself():
    # Word order is the text encoder's business.
    attention, (maps, words, which), order = WordAttention(8, 5), case(), torch.tensor([2, 0, 3, 1])
    turned = Tokens(words.values[:, order], words.mask[:, order])
    torch.testing.assert_close(attention(maps, turned, which), attention(maps, words, which))


def test_brightness_and_contrast_of_a_picture_do_not_change_who_reads_what():
    attention, (maps, words, which) = WordAttention(8, 5), case()
    shifted = 3 * maps + torch.arange(8.0).unsqueeze(1)
    one, two = (attention.shares(m, words, which) for m in (maps, shifted))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_a_map_of_one_pixel_reads_the_mean_word():
    attention, (maps, words, which) = WordAttention(8, 5), case(pixels=1)
    expected = attention.value(words.mean()).unsqueeze(2)
    torch.testing.assert_close(attention(maps, words, which), expected, atol=1e-6, rtol=0)


def test_large_scores_do_not_overflow():
    attention, (maps, words, which) = WordAttention(8, 5), case()
    assert attention(maps, Tokens(words.values * 1e4, words.mask), which).isfinite().all()


def test_spread_is_a_weighted_sum_by_hand():
    values = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]])  # two words of width 2
    shares = torch.tensor([[[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]])  # three pixels
    assert torch.equal(spread(values, shares), torch.tensor([[[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]]))


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_map_on_pixels_is_a_1x1_convolution(bias):
    convolution, linear, maps = nn.Conv1d(8, 3, 1, bias=bias), nn.Linear(8, 3, bias=bias), case()[0]
    linear.load_state_dict(
        {k: v.squeeze(2) if v.ndim == 3 else v for k, v in convolution.state_dict().items()}
    )
    torch.testing.assert_close(on_pixels(linear, maps), convolution(maps))
    onto = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(1))
    without = on_pixels(linear, maps) - (linear.bias.unsqueeze(1) if bias else 0)
    torch.testing.assert_close(on_pixels(linear, maps, onto=onto), onto + without, atol=1e-6, rtol=0)


def test_phrases_find_their_pictures_and_share_the_memory_of_a_single_one():
    maps = case()[0]
    assert torch.equal(of_phrases(maps, WHICH), maps[WHICH])
    shared = of_phrases(maps[:1], torch.zeros(4, dtype=torch.long))
    assert torch.equal(shared, maps[:1].repeat(4, 1, 1))
    assert shared.data_ptr() == maps.data_ptr()
    assert of_phrases(maps, WHICH[:0]).shape == (0, 8, 12)


def test_the_border_names_what_is_wrong():
    _, words, which = case()
    maps = torch.zeros(2, 8, 3, 4)
    check_phrases(maps, words, which, width=8, dim=5, space=2)
    with pytest.raises(ValueError, match=r"\[n channels=8 depth height width\], got \[2, 8, 3, 4\]"):
        check_phrases(maps, words, which, width=8, dim=5, space=3)
    with pytest.raises(ValueError, match="from 0 to 0, got 0 to 1"):
        check_phrases(maps[:1], words, which, width=8, dim=5, space=2)
    with pytest.raises(ValueError, match="Unknown number of axes in space 1"):
        check_space(1)
