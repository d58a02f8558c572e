"""What every word-pixel fusion of the catalogue owes a phrase and its picture, whatever its weights.

A new row of the kind "word-pixel fusion" gets these tests without further ado. Padding words hold NaN
throughout, so whoever reads one is found out.
"""

import pytest
import torch

from mmmed.catalogue import ROWS
from mmmed.types import Tokens

WIDTH, DIM, PICTURES = 8, 6, 3
FUSIONS = [row for row in ROWS if row.kind == "word-pixel fusion"]
BLIND = ("plain",)
GRIDS = {"picture": (5, 7), "volume": (3, 5, 7), "pixel": (1, 1), "voxel": (1, 1, 1)}
WHICH = torch.tensor([2, 0, 0, 1, 2])
LENGTHS = {"words": (3, 1, 4, 2, 4), "one word": (1,) * 5}


@pytest.fixture(params=FUSIONS, ids=lambda row: row.name)
def row(request):
    return request.param


@pytest.fixture(params=GRIDS)
def grid(request):
    return GRIDS[request.param]


@pytest.fixture(params=LENGTHS)
def lengths(request):
    return LENGTHS[request.param]


@pytest.fixture
def fusion(row, grid):
    return build(row, grid)


def build(row, grid, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return row.load()(WIDTH, DIM, space=len(grid), **row.tiny).eval()


def maps_of(grid, pictures=PICTURES, seed=0):
    return torch.randn(pictures, WIDTH, *grid, generator=torch.Generator().manual_seed(seed))


def words_of(lengths, seed=1):
    draw, lengths = torch.Generator().manual_seed(seed), torch.tensor(lengths, dtype=torch.long)
    longest = int(lengths.max()) if len(lengths) else 2
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    values = torch.randn(*mask.shape, DIM, generator=draw)
    return Tokens(values.masked_fill(~mask.unsqueeze(2), torch.nan), mask)


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def test_every_phrase_gets_a_map_like_that_of_its_picture(fusion, grid, lengths):
    fused = fusion(maps_of(grid), words_of(lengths), WHICH)
    assert fused.shape == (5, WIDTH, *grid)
    assert fused.isfinite().all()
    assert (fusion.width, fusion.dim, fusion.space) == (WIDTH, DIM, len(grid))


def test_no_phrase_gives_no_map(fusion, grid):
    for pictures in (0, 1, 3):
        fused = fusion(maps_of(grid, pictures), words_of(()), WHICH[:0])
        assert fused.shape == (0, WIDTH, *grid)


def test_phrases_in_another_order_give_their_maps_in_that_order(fusion, grid, lengths):
    maps, words, order = maps_of(grid), words_of(lengths), torch.tensor([3, 1, 4, 0, 2])
    close(fusion(maps, words[order], WHICH[order]), fusion(maps, words, WHICH)[order])


def test_pictures_in_another_order_are_found(fusion, grid, lengths):
    maps, words, order = maps_of(grid), words_of(lengths), torch.tensor([2, 0, 1])
    close(fusion(maps[order], words, order.argsort()[WHICH]), fusion(maps, words, WHICH))


def test_a_phrase_and_its_picture_are_judged_alone(fusion, grid, lengths):
    maps, words = maps_of(grid), words_of(lengths)
    together = fusion(maps, words, WHICH)
    for i, picture in enumerate(WHICH.tolist()):
        alone = fusion(maps[picture : picture + 1], words[i : i + 1], torch.tensor([0]))
        close(alone, together[i : i + 1])


def test_phrases_that_share_a_picture_equal_phrases_with_a_copy_each(fusion, grid, lengths):
    maps, words = maps_of(grid), words_of(lengths)
    close(fusion(maps, words, WHICH), fusion(maps[WHICH], words, torch.arange(5)))
    one = fusion(maps[:1], words, torch.zeros(5, dtype=torch.long))
    close(one, fusion(maps[:1].repeat(5, *[1] * (len(grid) + 1)), words, torch.arange(5)))


def test_more_padding_changes_nothing_wherever_it_stands(fusion, grid, lengths):
    maps, words = maps_of(grid), words_of(lengths)
    nan, no = torch.full((5, 2, DIM), torch.nan), torch.zeros(5, 2, dtype=torch.bool)
    values, mask = [nan, words.values, nan], [no, words.mask, no]
    padded = Tokens(torch.cat(values, 1), torch.cat(mask, 1))
    close(fusion(maps, padded, WHICH), fusion(maps, words, WHICH))


def test_a_phrase_without_a_word_gives_numbers(fusion, grid):
    words = words_of((0, 2, 1, 0, 3))
    fused = fusion(maps_of(grid), words, WHICH)
    assert fused.isfinite().all()


def test_another_word_gives_another_map_unless_the_fusion_is_blind(fusion, grid, lengths, row):
    maps, words, other = maps_of(grid), words_of(lengths), words_of(lengths, seed=2)
    values = words.values.clone()
    values[:, 0] = other.values[:, 0]
    one, two = (fusion(maps, Tokens(v, words.mask), WHICH) for v in (words.values, values))
    differs = (one - two).flatten(1).abs().amax(1)
    assert (differs == 0).all() if row.name in BLIND else (differs > 1e-7).all()


def test_another_picture_gives_another_map(fusion, grid, lengths):
    words = words_of(lengths)
    one, two = fusion(maps_of(grid), words, WHICH), fusion(maps_of(grid, seed=3), words, WHICH)
    assert ((one - two).flatten(1).abs().amax(1) > 1e-3).all()


def test_the_map_is_added_to_when_the_last_weights_are_zero(fusion, grid, lengths, row):
    last = fusion.gate_leave if row.name == "pwam" else fusion.leave
    for parameter in last.parameters():
        torch.nn.init.zeros_(parameter)
    close(fusion(maps_of(grid), words_of(lengths), WHICH), maps_of(grid)[WHICH], 1e-6)


@pytest.mark.parametrize("grid", [(5, 7), (3, 5, 7)])
def test_every_parameter_learns_and_so_do_maps_and_words(row, grid):
    fusion, maps, words = build(row, grid).double(), maps_of(grid), words_of(LENGTHS["words"])
    maps.requires_grad_()
    words.values.requires_grad_()
    fused = fusion(maps.double(), words, WHICH)
    (fused * torch.randn(fused.shape, generator=torch.Generator().manual_seed(4))).sum().backward()
    silent = [name for name, p in fusion.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9]
    assert not silent
    assert maps.grad.abs().amin() > 0
    if row.name in BLIND:
        assert words.values.grad is None
    else:
        reached = words.values.grad.abs().sum(2) > 0  # NaN in the padding stays out of the gradients
        assert torch.equal(reached, words.mask)


def test_the_map_of_one_phrase_can_be_written_into(fusion, grid, lengths):
    maps, words = maps_of(grid, 1), words_of(lengths)
    with torch.no_grad():
        fused, expected = (fusion(maps, words, WHICH * 0) for _ in range(2))
        fused[0] += 1
    assert torch.equal(fused[1:], expected[1:])


def test_how_maps_lie_in_memory_does_not_matter(fusion, grid, lengths):
    maps, words = maps_of(grid), words_of(lengths)
    other = maps.transpose(1, -1).contiguous().transpose(1, -1)
    close(fusion(other, words, WHICH), fusion(maps, words, WHICH))


def test_learning_draws_nothing_and_is_the_same_as_evaluation(fusion, grid, lengths):
    maps, words, state = maps_of(grid), words_of(lengths), torch.get_rng_state()
    expected = fusion(maps, words, WHICH)
    assert torch.equal(fusion.train()(maps, words, WHICH), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_input_is_left_as_it_was(fusion, grid, lengths):
    maps, words = maps_of(grid), words_of(lengths)
    fusion(maps, words, WHICH).add_(1)
    fusion(maps[:1], words, WHICH * 0)[0].add_(1)
    assert torch.equal(maps, maps_of(grid))
    assert torch.equal(words.values.nan_to_num(9), words_of(lengths).values.nan_to_num(9))


def test_it_runs_in_half_precision_where_autocast_asks_for_it(fusion, grid, lengths):
    maps, words = maps_of(grid), words_of(lengths)
    expected = fusion(maps, words, WHICH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(fusion(maps, words, WHICH).float(), expected, 0.05)


def test_its_weights_make_another_one_equal_to_it(fusion, grid, lengths, row):
    maps, words, other = maps_of(grid), words_of(lengths), build(row, grid, seed=1)
    assert other.load_state_dict(fusion.state_dict()) == ([], [])
    assert torch.equal(other(maps, words, WHICH), fusion(maps, words, WHICH))


def test_wrong_input_is_named(row):
    fusion, maps, words = build(row, (5, 7)), maps_of((5, 7)), words_of(LENGTHS["words"])
    with pytest.raises(
        ValueError, match=r"maps should have shape \[n channels=8 height width\], got \[3, 8, 5"
    ):
        fusion(maps_of((5, 7, 2)), words, WHICH)
    with pytest.raises(ValueError, match=r"words should have shape \[m t dim=6\], got \[5, 4, 5\]"):
        fusion(maps, Tokens(words.values[..., 1:], words.mask), WHICH)
    with pytest.raises(ValueError, match=r"which should have shape \[m=5\], got \[4\]"):
        fusion(maps, words, WHICH[1:])
    for wrong in (WHICH + 1, WHICH - 1):
        with pytest.raises(ValueError, match="positions of pictures from 0 to 2"):
            fusion(maps, words, wrong)
    with pytest.raises(ValueError, match=r"Unknown number of axes in space 4\. Known: 2, 3"):
        row.load()(WIDTH, DIM, space=4)
