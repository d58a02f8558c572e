import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmmed.encoders.tabular import TabularEncoder, compress
from mmmed.types import Category, Number, Tabular

LEVELS = (None, 2, None, 3)


def encoder(**options):
    torch.manual_seed(0)
    return TabularEncoder(4, dim=8, levels=LEVELS, **options).eval()


CELLS = torch.tensor([[0.5, 1.0, -1.5, 2.0]])


@settings(deadline=None, max_examples=40)
@given(
    known=st.lists(st.booleans(), min_size=4, max_size=4),
    value=st.floats(width=32),
    tokens=st.booleans(),
    indicators=st.booleans(),
)
def test_the_value_of_an_absent_cell_never_counts(known, value, tokens, indicators):
    """Bit by bit, for any number, infinite and NaN as well."""
    network, known = encoder(cells_as_tokens=tokens, indicators=indicators), torch.tensor([known])
    plain = network(torch.where(known, CELLS, 0.0), known)
    tainted = network(torch.where(known, CELLS, value), known)
    assert torch.equal(plain.values, tainted.values)
    assert torch.equal(plain.mask, tainted.mask)


def test_an_absent_number_is_read_as_its_mean():
    network = encoder()
    recorded = torch.tensor([[True, True, True, True]])
    absent = torch.tensor([[False, True, True, True]])
    at_the_mean = CELLS.clone()
    at_the_mean[0, 0] = 0.0
    assert torch.equal(network(CELLS, absent).values, network(at_the_mean, recorded).values)


def test_an_absent_category_lies_in_the_middle_of_its_levels():
    """In the sum over the cells, which is what the network reads."""
    network, rows = encoder(), CELLS.repeat(3, 1)
    rows[:, 3] = torch.arange(3)
    with torch.no_grad():
        levels = network.vectors(rows, torch.ones(3, 4, dtype=torch.bool)).sum(1)
        absent = network.vectors(CELLS, torch.tensor([[True, True, True, False]])).sum(1)
    torch.testing.assert_close(levels.mean(0, keepdim=True), absent)
    assert not torch.allclose(levels[0], levels[1])


def test_only_with_indicators_does_the_gap_itself_count():
    at_the_mean = torch.zeros(1, 4)
    here, gone = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, True, True, True]])
    assert torch.equal(encoder()(at_the_mean, here).values, encoder()(at_the_mean, gone).values)
    network = encoder(indicators=True)
    assert not torch.allclose(network(at_the_mean, here).values, network(at_the_mean, gone).values)


def test_the_sum_over_cells_equals_a_linear_layer_on_one_hot_columns():
    network = encoder()
    vectors = network.vectors
    two, three = (vectors.tables[place] - vectors.tables[place].mean(0) for place in ("1", "3"))
    weights = torch.cat([vectors.slopes[:1], two, vectors.slopes[1:], three])  # [1+2+1+3 hidden]
    one_hot = torch.tensor([[0.5, 0.0, 1.0, -1.5, 0.0, 0.0, 1.0]])
    known = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(vectors(CELLS, known).sum(1), one_hot @ weights)


def test_cells_as_tokens_gives_one_for_each_recorded_cell():
    network, known = encoder(cells_as_tokens=True), torch.tensor([[True, False, True, True]])
    tokens = network(CELLS, known)
    assert torch.equal(tokens.mask, known)
    assert tokens.values[0, 1].eq(0).all()
    other = CELLS.clone()
    other[0, 2] = 2.0
    moved = (network(other, known).values - tokens.values).abs().sum(2)[0]
    assert moved[2] > 0
    assert moved[[0, 1, 3]].eq(0).all()  # a token tells of one cell alone


def test_extreme_numbers_are_compressed_but_keep_their_order():
    numbers = torch.tensor([-1e6, -100.0, -3.0, -0.5, 0.0, 2.9, 3.0, 3.1, 10.0, 1e6])
    squeezed = compress(numbers)
    assert (squeezed.diff() > 0).all()
    assert squeezed.abs().max() < 20
    assert torch.equal(squeezed[2:7], numbers[2:7])
    torch.testing.assert_close(compress(torch.tensor(10.0)), torch.tensor(3.0) + torch.tensor(8.0).log())


def test_one_wrong_unit_does_not_change_the_token_beyond_measure():
    network, known = encoder(), torch.ones(1, 4, dtype=torch.bool)
    wrong = CELLS.clone()
    wrong[0, 0] = 1000.0
    assert network(wrong, known).values.abs().max() < 20 * network(CELLS, known).values.abs().max()


def test_it_is_built_from_the_columns_of_a_schema():
    table = Tabular((Number("crp"), Category("sex", ("f", "m")), Number("age"), Category("never seen")))
    network = TabularEncoder.from_schema(table, dim=8)
    assert network.features == 4
    assert set(network.vectors.tables) == {"1"}
    cells, known = torch.zeros(2, 4), torch.tensor([[True, True, False, False]] * 2)
    assert network(cells, known).values.shape == (2, 1, 8)
    categories = TabularEncoder.from_schema(Tabular((Category("sex", ("f", "m")),)), dim=8)
    assert categories(torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.bool)).values.shape == (2, 1, 8)


def test_wrong_input_is_named():
    known = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"cells should have shape \[n columns=4\], got \[1, 3\]. The schema lists 4"
    ):
        encoder()(CELLS[:, :3], known)
    with pytest.raises(ValueError, match=r"known should have shape"):
        encoder()(CELLS, known[:, :3])
    with pytest.raises(ValueError, match=r"Column 3 of cells .*0 to 2, got 7 to 7"):
        encoder()(torch.tensor([[0.5, 1.0, -1.5, 7.0]]), known)
    with pytest.raises(ValueError, match="levels should name 4 columns, got 2"):
        TabularEncoder(4, levels=(None, 2))


def test_it_learns_what_a_linear_model_cannot():
    """Whether two numbers have the same sign: 300 rows, six columns, a fifth of the cells missing."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)

    def rows(count):
        cells = torch.randn(count, 6, generator=draw)
        known = torch.rand(count, 6, generator=draw) < 0.8
        known[:, :2] = True
        return cells, known, (cells[:, 0] * cells[:, 1] > 0).float()

    network, head = TabularEncoder(6, dim=16), nn.Linear(16, 1)
    optimiser = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=4e-3)
    cells, known, label = rows(300)
    for _ in range(30):
        for part in torch.arange(300).split(30):
            optimiser.zero_grad()
            logit = head(network(cells[part], known[part]).values[:, 0])[:, 0]
            nn.functional.binary_cross_entropy_with_logits(logit, label[part]).backward()
            optimiser.step()
    network.eval()
    cells, known, label = rows(500)
    with torch.no_grad():
        right = ((head(network(cells, known).values[:, 0])[:, 0] > 0) == label.bool()).float().mean()
    assert right > 0.85, right
