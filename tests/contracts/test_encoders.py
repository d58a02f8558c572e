"""What every encoder of the catalogue owes a record with holes, whatever its weights.

A new row that ends in "encoder" gets these tests without further ado.
"""

import sys
from pathlib import Path

import pytest
import torch

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.catalogue import ROWS
from mmmed.types import Tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "encoders"))
from encoder_examples import MASKS, MODALITIES, PADDED, inputs, padded, unread

DIM = 8
TINY_BERT = {
    "model_type": "bert",
    "vocab_size": 14,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
ENCODERS = [row for row in ROWS if row.kind.endswith("encoder")]
# further layouts of the same encoders
VARIANTS = {
    "cnn": ({}, {"grid": True}),
    "timm": ({}, {"grid": True}),
    "open_clip": ({}, {"grid": True}),
    "cnn3d": ({}, {"grid": True}),
    "mlp": ({}, {"indicators": True}, {"cells_as_tokens": True}),
    "transformer": ({}, {"tokens": True}),
    "huggingface": ({}, {"tokens": True}),
    "irregular": ({}, {"tokens": True}),
}
CASES = [(row, options) for row in ENCODERS for options in VARIANTS.get(row.name, ({},))]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0].name, *case[1]]))
def case(request):
    return request.param


@pytest.fixture
def kind(case):
    return case[0].kind


@pytest.fixture
def encoder(case):
    return build(case)


def build(case, seed=0):
    row, options = case
    if row.name == "huggingface":
        pytest.importorskip("transformers")
        options = {"name": TINY_BERT, **options}
    if row.name == "open_clip":
        torchvision_state()
        pytest.importorskip("open_clip")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return row.load().from_schema(MODALITIES[row.kind], dim=DIM, **{**row.tiny, **options}).eval()


def row_of(batch, index):
    return {name: item[index : index + 1] for name, item in batch.items()}


def assert_same(one, other, **tolerance):
    """The same real tokens in the same order; how many padding tokens stand behind them does not matter."""
    for mine, my_mask, yours, your_mask in zip(one.values, one.mask, other.values, other.mask, strict=True):
        torch.testing.assert_close(mine[my_mask], yours[your_mask], **tolerance)


def test_it_gives_tokens_of_its_own_width_and_every_row_has_one(encoder, kind):
    tokens = encoder(**inputs(kind))
    assert isinstance(tokens, Tokens)
    assert encoder.dim == DIM
    assert tokens.values.shape == (*tokens.mask.shape, DIM)
    assert len(tokens.values) == 4
    assert tokens.mask.dtype == torch.bool
    assert tokens.mask.any(1).all()
    assert tokens.values.isfinite().all()


def test_a_row_alone_gets_the_same_tokens_as_among_others(encoder, kind):
    batch = inputs(kind)
    together = encoder(**batch)
    for index in range(4):
        assert_same(encoder(**row_of(batch, index)), together[index : index + 1], atol=1e-5, rtol=1e-5)


def test_rows_may_stand_in_any_order(encoder, kind):
    batch, order = inputs(kind), torch.tensor([2, 0, 3, 1])
    shuffled = encoder(**{name: item[order] for name, item in batch.items()})
    assert_same(shuffled, encoder(**batch)[order], atol=1e-5, rtol=1e-5)


def test_different_rows_get_different_tokens(encoder, kind):
    values = encoder(**inputs(kind)).values
    assert not torch.allclose(values[0], values[1], atol=1e-4)


def test_what_stands_where_nothing_is_known_is_not_read(encoder, kind):
    if kind not in MASKS:
        pytest.skip("this kind of input has no inner mask")
    batch = inputs(kind)
    expected = encoder(**batch)
    for filling in (1e30, float("nan"), float("-inf")):
        other = encoder(**unread(kind, batch, filling))
        assert torch.equal(other.mask, expected.mask)
        assert torch.equal(other.values, expected.values)


def test_nor_does_it_reach_a_gradient(encoder, kind):
    if kind not in MASKS:
        pytest.skip("this kind of input has no inner mask")
    gradients = []
    for filling in (0.0, float("nan")):
        encoder.zero_grad()
        tokens = encoder(**unread(kind, inputs(kind), filling))
        tokens.values[tokens.mask].pow(2).sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    for plain, tainted in zip(*gradients, strict=True):
        assert torch.equal(plain, tainted)


def test_further_padding_changes_nothing(encoder, kind):
    if kind not in PADDED:
        pytest.skip("this kind of input is never padded")
    batch = inputs(kind)
    assert_same(encoder(**padded(kind, batch)), encoder(**batch), atol=1e-6, rtol=1e-5)


def test_every_parameter_learns(encoder, kind, case):
    if case[1].get("grid") and case[0].name == "timm":
        pytest.skip("some networks of timm have layers that only their pooled vector passes")
    tokens = encoder(**inputs(kind, rows=12))
    weights = torch.randn(DIM, generator=torch.Generator().manual_seed(1))
    (tokens.values[tokens.mask] @ weights).pow(2).sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_it_learns_from_a_single_row(encoder, kind):
    encoder.train()
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-2)
    before = [p.detach().clone() for p in encoder.parameters()]
    tokens = encoder(**row_of(inputs(kind), 0))
    tokens.values.pow(2).sum().backward()
    optimiser.step()
    assert tokens.values.isfinite().all()
    assert all(p.isfinite().all() for p in encoder.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(encoder.parameters(), before, strict=True))
    encoder.eval()
    assert encoder(**inputs(kind)).values.isfinite().all()


def test_in_evaluation_the_same_row_gives_the_same_tokens(encoder, kind):
    batch = inputs(kind)
    assert torch.equal(encoder(**batch).values, encoder(**batch).values)


def test_its_weights_make_another_one_equal_to_it(encoder, kind, case):
    other = build(case, seed=1)
    assert not torch.allclose(other(**inputs(kind)).values, encoder(**inputs(kind)).values, atol=1e-4)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(**inputs(kind)).values, encoder(**inputs(kind)).values)


def test_it_follows_the_precision_of_its_weights(encoder, kind):
    double = encoder.double()(**inputs(kind))  # inputs come as float32
    assert double.values.dtype == torch.float64
    assert double.values.isfinite().all()


def test_it_runs_in_half_precision_where_autocast_asks_for_it(encoder, kind):
    expected = encoder(**inputs(kind))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = encoder(**inputs(kind))
    assert torch.equal(tokens.mask, expected.mask)
    torch.testing.assert_close(tokens.values.float(), expected.values, atol=0.1, rtol=0.1)


def test_building_it_from_one_seed_gives_one_result(case, kind):
    assert torch.equal(build(case, seed=3)(**inputs(kind)).values, build(case, seed=3)(**inputs(kind)).values)
