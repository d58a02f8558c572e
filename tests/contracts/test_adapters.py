"""What every adapter of the catalogue owes a patient, whatever its weights and whatever the tokens stand for.

A new row of the kind "adapter" gets these tests without further ado.
"""

import pytest
import torch

from mmmed.catalogue import ROWS
from mmmed.types import Tokens

DIM, WIDTH, ROWS_THERE = 8, 12, 4
ADAPTERS = [row for row in ROWS if row.kind == "adapter"]
LAYOUTS = {"picture": (2, 3), "volume": (2, 1, 2), "words": None, "state": None}
IGNORE_PROMPTS = ("mlp_adapter", "perceiver_adapter", "mixture_adapter")


@pytest.fixture(params=ADAPTERS, ids=lambda row: row.name)
def row(request):
    return request.param


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def adapter(row):
    return build(row)


def build(row, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return row.load()(DIM, WIDTH, **row.tiny).eval()


def tokens_of(layout, rows=ROWS_THERE, seed=0, before=0, behind=0):
    """Tokens of that layout, with padding before and behind what is there.

    On a grid: whole pictures of two views, then as many crops, since some adapters tell them apart; some rows
    lack the second view. Words: five, of which some rows have fewer. State: a single token.
    """
    draw = torch.Generator().manual_seed(seed)
    grid = LAYOUTS[layout]
    if grid is None:
        count = 5 if layout == "words" else 1
        lengths = torch.randint(1, count + 1, (rows, 1), generator=draw)
        values, mask = torch.randn(rows, count, DIM, generator=draw), torch.arange(count) < lengths
        return pad(Tokens(values, mask), before, behind, axis=1)
    places = torch.zeros(grid).numel()
    views = torch.rand(rows, 1, 2, 1, generator=draw) < 0.5
    views[:, :, 0] = True
    values = torch.randn(rows, 2, 2, places, DIM, generator=draw)  # [rows whole-or-crop view place dim]
    padded = pad(Tokens(values, views.expand(rows, 2, 2, places)), before, behind, axis=2)
    return Tokens(padded.values.flatten(1, 3), padded.mask.flatten(1, 3))


def pad(tokens, before, behind, axis):
    def wider(item, filling):
        ends = [
            item.narrow(axis, 0, 1).expand(*item.shape[:axis], n, *item.shape[axis + 1 :])
            for n in (before, behind)
        ]
        first, last = (torch.full_like(end, filling) for end in ends)
        return torch.cat([first, item, last], dim=axis)

    return Tokens(wider(tokens.values, 7.0), wider(tokens.mask, False))


def prompt_of(rows=ROWS_THERE, seed=5):
    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(4) < torch.randint(1, 5, (rows, 1), generator=draw)
    return Tokens(torch.randn(rows, 4, WIDTH, generator=draw), mask)


def run(adapter, layout, tokens=None, prompt=None, **options):
    tokens = tokens_of(layout, **options) if tokens is None else tokens
    return adapter(tokens, LAYOUTS[layout], prompt_of(len(tokens.mask)) if prompt is None else prompt)


def filled(tokens, filling):
    return Tokens(torch.where(tokens.mask.unsqueeze(2), tokens.values, filling), tokens.mask)


def assert_same(one, other, **tolerance):
    """The same real tokens in the same order, row by row."""
    assert torch.equal(one.mask.sum(1), other.mask.sum(1))
    for mine, my_mask, yours, your_mask in zip(one.values, one.mask, other.values, other.mask, strict=True):
        torch.testing.assert_close(mine[my_mask], yours[your_mask], **tolerance)


def test_it_gives_tokens_as_wide_as_the_words_and_every_row_has_one(adapter, layout):
    given = run(adapter, layout)
    assert isinstance(given, Tokens)
    assert given.values.shape == (*given.mask.shape, WIDTH)
    assert len(given.values) == ROWS_THERE
    assert given.mask.dtype == torch.bool
    assert given.mask.any(1).all()
    assert given.values.isfinite().all()
    assert (adapter.dim, adapter.width) == (DIM, WIDTH)


def test_a_batch_of_none_gives_none(adapter, layout):
    given = run(adapter, layout, rows=0)
    assert given.values.shape == (0, given.mask.shape[1], WIDTH)


def test_a_row_is_judged_alone(adapter, layout):
    tokens, prompt = tokens_of(layout), prompt_of()
    together = run(adapter, layout, tokens, prompt)
    for i in range(ROWS_THERE):
        alone = run(adapter, layout, tokens[i : i + 1], prompt[i : i + 1])
        assert_same(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_different_rows_get_different_tokens(adapter, layout):
    values = run(adapter, layout).values
    assert not torch.allclose(values[0], values[1], atol=1e-4)


@pytest.mark.parametrize("filling", [1e30, float("nan"), float("-inf")])
def test_what_stands_in_padding_is_not_read(adapter, layout, filling):
    tokens, prompt = tokens_of(layout), prompt_of()
    given = run(adapter, layout, filled(tokens, filling), filled(prompt, filling))
    expected = run(adapter, layout, tokens, prompt)
    assert_same(given, expected, atol=0, rtol=0)
    assert given.values.isfinite().all()


def test_nor_does_it_reach_a_gradient(adapter, layout):
    gradients = []
    for filling in (0.0, float("nan")):
        adapter.zero_grad()
        given = run(adapter, layout, filled(tokens_of(layout), filling), filled(prompt_of(), filling))
        given.values[given.mask].pow(2).sum().backward()
        gradients.append([p.grad.clone() for p in adapter.parameters() if p.grad is not None])
    for plain, tainted in zip(*gradients, strict=True):
        assert torch.equal(plain, tainted)


@pytest.mark.parametrize(("before", "behind"), [(0, 2), (1, 0), (2, 1)])
def test_more_padding_before_or_behind_changes_nothing(adapter, layout, before, behind):
    padded = tokens_of(layout, before=before, behind=behind)
    assert padded.mask.shape[1] > tokens_of(layout).mask.shape[1]
    assert_same(run(adapter, layout, padded), run(adapter, layout), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["picture", "volume"])
def test_every_parameter_learns(adapter, layout):
    given = run(adapter, layout, rows=16)
    weights = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    (given.values[given.mask] @ weights).pow(2).sum().backward()
    silent = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_the_tokens_themselves_learn_too(adapter, layout):
    tokens = tokens_of(layout)
    tokens.values.requires_grad_()
    given = run(adapter, layout, tokens)
    (given.values[given.mask] @ torch.arange(1.0, WIDTH + 1)).sum().backward()
    reached = tokens.values.grad.abs().sum(2) > 0
    assert reached[tokens.mask].all()
    assert not reached[~tokens.mask].any()


def test_learning_draws_nothing_and_is_the_same_as_evaluation(adapter, layout):
    state, expected = torch.get_rng_state(), run(adapter, layout)
    assert torch.equal(run(adapter.train(), layout).values, expected.values)
    assert torch.equal(torch.get_rng_state(), state)


def test_its_weights_make_another_one_equal_to_it(adapter, layout, row):
    other, expected = build(row, seed=1), run(adapter, layout)
    assert not torch.allclose(run(other, layout).values, expected.values, atol=1e-4)
    assert other.load_state_dict(adapter.state_dict()) == ([], [])
    assert torch.equal(run(other, layout).values, expected.values)


def test_building_it_from_one_seed_gives_one_result(row, layout):
    assert torch.equal(run(build(row, 3), layout).values, run(build(row, 3), layout).values)


def test_it_follows_the_precision_of_its_weights(adapter, layout):
    double = run(adapter.double(), layout)  # tokens come as float32
    assert double.values.dtype == torch.float64


def test_it_runs_in_half_precision_where_autocast_asks_for_it(adapter, layout, row):
    expected = run(adapter, layout)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = run(adapter, layout)
    assert given.values.isfinite().all()
    if row.name in IGNORE_PROMPTS:  # a router may choose otherwise where scores are rounded
        torch.testing.assert_close(given.values.float(), expected.values, atol=0.1, rtol=0.1)


def test_what_was_first_run_for_inference_can_learn_afterwards(row):
    from mmmed.language import perceiver_adapter

    perceiver_adapter.pooling.cache_clear()
    perceiver_adapter.place_positions.cache_clear()
    adapter = build(row).double()  # the precision in which tables are kept, so that no copy is made
    with torch.inference_mode():
        run(adapter, "picture")
    tokens = tokens_of("picture")
    tokens.values.requires_grad_()
    run(adapter, "picture", tokens).values.sum().backward()


def test_a_prompt_changes_nothing_for_those_that_do_not_read_it(adapter, layout, row):
    if row.name not in IGNORE_PROMPTS:
        pytest.skip("this adapter chooses by the prompt")
    tokens, grid = tokens_of(layout), LAYOUTS[layout]
    assert torch.equal(adapter(tokens, grid).values, adapter(tokens, grid, prompt_of()).values)


def test_it_can_do_without_a_prompt(adapter, layout):
    given = adapter(tokens_of(layout), LAYOUTS[layout])
    assert given.values.isfinite().all()
    assert given.mask.any(1).all()


def test_what_is_used_of_it_is_not_saved(adapter):
    if not hasattr(adapter, "use"):
        pytest.skip("this adapter has no parts to choose from")
    before = adapter.state_dict()
    with pytest.raises(ValueError, match="both"):
        adapter.use("neither")
    first = "mlp" if "gate.weight" in before else "global"
    assert adapter.use(first) is adapter
    assert list(adapter.state_dict()) == list(before)


def test_wrong_input_is_named(adapter):
    tokens = tokens_of("picture")
    with pytest.raises(ValueError, match=r"tokens should have shape \[n tokens dim=8\], got \[4, \d+, 7\]"):
        adapter(Tokens(tokens.values[..., 1:], tokens.mask), (2, 3))
    with pytest.raises(ValueError, match=r"grid of \(5, 5\) has 25 places"):
        adapter(tokens, (5, 5))
    none = tokens.mask.clone()
    none[1] = False
    with pytest.raises(ValueError, match="A row has no real token"):
        adapter(Tokens(tokens.values, none), (2, 3))
