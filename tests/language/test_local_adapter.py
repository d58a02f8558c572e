"""Which tokens the router keeps, by what, and that it can learn to."""

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm

from mmmed.language.local_adapter import LocalAdapter, PromptRouter
from mmmed.types import Tokens

GRID = (2, 2)


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(**options):
    torch.manual_seed(0)
    adapter = LocalAdapter(8, 12, **{"queries": 2, "keep": 3, "heads": 2, **options})
    nn.init.normal_(adapter.router.plain.weight, std=1.0)
    return adapter


def case(rows=6, crops=4, seed=0):
    mask = torch.ones(rows, crops, 4, dtype=torch.bool)
    mask[1, 2:] = False  # two crops alone
    return Tokens(draws(rows, crops * 4, 8, seed=seed), mask.flatten(1))


def question(rows=6, words=3, seed=1):
    mask = torch.arange(words) < torch.randint(
        1, words + 1, (rows, 1), generator=torch.Generator().manual_seed(1)
    )
    return Tokens(draws(rows, words, 12, seed=seed), mask)


def test_a_crop_is_compressed_as_if_it_were_alone_apart_from_its_number():
    adapter, tokens = built(), case()
    compressed = adapter.compress(tokens, GRID)
    assert compressed.values.shape == (6, 8, 8)
    assert compressed.mask.sum(1).tolist() == [8, 4, 8, 8, 8, 8]
    alone = adapter.compress(Tokens(tokens.values[:, :4], tokens.mask[:, :4]), GRID)
    torch.testing.assert_close(compressed.values[:, :2], alone.values, atol=1e-6, rtol=0)
    twice = Tokens(tokens.values[:, :4].repeat(1, 2, 1), tokens.mask[:, :4].repeat(1, 2))
    first, second = adapter.compress(twice, GRID).values.unflatten(1, (2, 2)).unbind(1)
    apart = (
        second - first
    )  # the same for every query and row: the position of number 1, less that of number 0
    torch.testing.assert_close(apart, apart[:1, :1].expand_as(apart), atol=1e-5, rtol=0)
    assert apart.abs().max() > 0.1


@pytest.mark.parametrize("asked", [True, False])
def test_the_best_are_kept_in_their_order(asked):
    adapter, tokens, prompt = built(), case(), question() if asked else None
    index, real = adapter.chosen(tokens, GRID, prompt)
    for row, shares in enumerate(adapter.shares(tokens, GRID, prompt)):
        assert index[row].tolist() == sorted(shares.argsort(descending=True)[:3].tolist())
    assert real.all()
    given, compressed = adapter(tokens, GRID, prompt), adapter.compress(tokens, GRID)
    for row in range(6):
        wanted = adapter.project(compressed.values[row, index[row]])  # forward, a kept token weighs exactly 1
        torch.testing.assert_close(given.values[row], wanted, atol=1e-6, rtol=0)


def test_where_fewer_are_there_all_are_kept_and_shapes_stay():
    adapter, tokens = built(keep=6), case()
    assert adapter(tokens, GRID).mask.sum(1).tolist() == [6, 4, 6, 6, 6, 6]
    assert built(keep=50)(tokens, GRID).values.shape == (6, 8, 12)


@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.6, 0.9])
def test_top_p_keeps_the_smallest_set_that_has_the_mass(top_p):
    adapter, tokens = built(keep=5, top_p=top_p), case()
    index, real = adapter.chosen(tokens, GRID, question())
    shares = adapter.shares(tokens, GRID, question())
    for row in range(6):
        mass, wanted = 0.0, []
        for place in shares[row].argsort(descending=True)[:5].tolist():
            if wanted and mass >= top_p:
                break
            mass += shares[row, place].item()
            wanted.append(place)
        assert index[row][real[row]].tolist() == sorted(wanted)
    assert adapter(tokens, GRID, question()).values.shape == (6, 5, 12)


def test_the_score_is_the_mean_over_words_on_the_exponential_scale():
    torch.manual_seed(0)
    router, values, prompt = PromptRouter(8, 12), draws(6, 5, 8), question()
    given = router(values, prompt)
    for row in range(6):
        words = [router.word(layer_norm(word, (12,))) for word in prompt.values[row, prompt.mask[row]]]
        for token in range(5):
            asked = [(router.token(values[row, token]) @ word / 8**0.5).exp() for word in words]
            wanted = router.plain(values[row, token])[0] + (sum(asked) / len(asked)).log()
            torch.testing.assert_close(given[row, token], wanted, atol=1e-5, rtol=0)


def test_an_empty_prompt_is_no_prompt():
    adapter, tokens, prompt = built(), case(), question()
    mask = prompt.mask.clone()
    mask[2] = False
    given, without = (adapter(tokens, GRID, p).values for p in (Tokens(prompt.values, mask), None))
    assert torch.equal(given[2], without[2])
    none = Tokens(prompt.values[:, :0], prompt.mask[:, :0])
    assert torch.equal(adapter(tokens, GRID, none).values, without)
    adapter(tokens, GRID, Tokens(prompt.values, mask)).values.sum().backward()
    assert all(p.grad.isfinite().all() for p in adapter.parameters())


def test_another_question_keeps_other_tokens():
    torch.manual_seed(0)
    adapter, tokens = LocalAdapter(8, 12, queries=2, keep=3, heads=2), case()
    one, other = (adapter.chosen(tokens, GRID, question(seed=seed))[0] for seed in (1, 2))
    assert not torch.equal(one, other)


def test_nothing_but_tokens_and_prompt_changes_the_choice():
    adapter, tokens, prompt = built(), case(), question()
    expected = adapter.eval().chosen(tokens, GRID, prompt)[0]
    adapter(case(seed=9), GRID, question(seed=9))  # what was asked before
    torch.manual_seed(123)
    assert torch.equal(adapter.train().chosen(tokens, GRID, prompt)[0], expected)
    longer = Tokens(
        torch.cat([prompt.values, torch.full((6, 2, 12), 9.0)], 1),
        torch.cat([prompt.mask, torch.zeros(6, 2, dtype=torch.bool)], 1),
    )
    assert torch.equal(adapter.chosen(tokens, GRID, longer)[0], expected)
    strangers = Tokens(tokens.values.clone(), tokens.mask), Tokens(prompt.values.clone(), prompt.mask)
    for item in strangers:
        item.values[1:] = 5.0
    assert torch.equal(adapter.chosen(strangers[0], GRID, strangers[1])[0][0], expected[0])


def test_the_words_of_the_language_model_receive_no_gradient():
    prompt = question()
    prompt.values.requires_grad_()
    built()(case(), GRID, prompt).values.sum().backward()
    assert prompt.values.grad is None


def test_tokens_that_were_not_kept_hear_that_others_were():
    adapter, tokens = built(keep=1), case(rows=2)
    tokens.values.requires_grad_()
    adapter.reader.requires_grad_(False)
    given = adapter(Tokens(tokens.values, tokens.mask), GRID)
    given.values[0].pow(2).sum().backward()
    assert (tokens.values.grad[0].abs().sum(1) > 0).all()


def test_a_prompt_of_another_width_or_number_of_rows_is_refused():
    tokens, prompt = case(), question()
    for wrong in (Tokens(prompt.values[..., 1:], prompt.mask), prompt[1:]):
        with pytest.raises(ValueError, match=r"prompt should have shape \[n=6 words width=12\], .*question"):
            built()(tokens, GRID, wrong)


def asked_crop(rows, seed):
    """Four crops with a number each; the question names the one whose number is wanted. -> tokens, prompt,
    number [rows], crop [rows]"""
    numbers, crop = draws(rows, 4, seed=seed), torch.arange(rows) % 4
    corner = nn.functional.one_hot(torch.arange(4), 7).expand(rows, 4, 7)
    values = torch.cat([numbers.unsqueeze(2), 2.0 * corner], 2).repeat_interleave(4, dim=1)
    words = 3.0 * nn.functional.one_hot(crop, 12).unsqueeze(1).float()
    prompt = Tokens(words, torch.ones(rows, 1, dtype=torch.bool))
    number = numbers.gather(1, crop.unsqueeze(1)).squeeze(1)
    return Tokens(values, torch.ones(rows, 16, dtype=torch.bool)), prompt, number, crop


@pytest.mark.parametrize("told", [True, False])
def test_the_router_learns_to_keep_what_is_asked_for_if_it_is_told(told):
    torch.manual_seed(0)
    adapter, head = LocalAdapter(8, 12, queries=1, keep=1, heads=2), nn.Linear(12, 1)
    optimiser = torch.optim.AdamW([*adapter.parameters(), *head.parameters()], lr=3e-2)
    tokens, prompt, number, _ = asked_crop(128, seed=0)
    for _ in range(70):
        optimiser.zero_grad()
        answer = head(adapter(tokens, GRID, prompt if told else None).values[:, 0]).squeeze(1)
        (answer - number).pow(2).mean().backward()
        optimiser.step()
    tokens, prompt, _, crop = asked_crop(128, seed=1)
    right = (adapter.chosen(tokens, GRID, prompt if told else None)[0][:, 0] == crop).float().mean()
    assert right > 0.7 if told else right < 0.5, right
