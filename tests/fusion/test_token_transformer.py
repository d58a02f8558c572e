"""The token transformer: without masks, on the tokens a record really has; a token only attention finds."""

import torch

from mmmed.fusion.concat import Concat
from mmmed.fusion.token_transformer import TokenTransformer


def make(names=("a", "b", "c"), layers=2):
    torch.manual_seed(0)
    return TokenTransformer(names, dim=4, state_dim=3, layers=layers, heads=2).eval()


def test_it_equals_a_transformer_over_the_tokens_a_record_really_has(cases):
    fusion, full = make(), cases.values()
    fused = fusion(*cases.pack(full))
    for record, has in enumerate(cases.present):
        sequence = [fusion.class_token.unsqueeze(0)]
        for index, name in enumerate(cases.names):
            if has[index]:
                tokens = cases.real(full, name, record)
                normed = torch.nn.functional.layer_norm(tokens, (4,))
                sequence.append(normed + fusion.marks[name].embedding)
        sequence = torch.cat(sequence).unsqueeze(0)
        everyone = torch.ones(1, sequence.shape[1], dtype=torch.bool)
        state = fusion.project(fusion.transformer(sequence, everyone)[0, 0])
        torch.testing.assert_close(fused.state[record], state, atol=1e-5, rtol=0)


def test_the_same_tokens_of_another_modality_are_something_else(cases):
    fusion, full = make(("a", "b")), cases.values(names=("a",))
    both = {"a": full["a"], "b": full["a"]}
    one = fusion(*cases.pack(both, torch.tensor([[True, False]] * 5))).state
    other = fusion(*cases.pack(both, torch.tensor([[False, True]] * 5))).state
    assert (one - other).abs().max() > 1e-4


def test_a_modality_may_bring_any_number_of_tokens(cases):
    fusion = make(("a", "b"))
    full = {**cases.values(names=("a",), tokens=1), **cases.values(names=("b",), tokens=7)}
    assert fusion(*cases.pack(full, torch.ones(5, 2, dtype=torch.bool))).state.isfinite().all()


def test_the_number_of_weights():
    # class token 4, an embedding of 4 per modality, projection 4*3+3, last norm 8;
    # per layer: attention 4*12+12 + 4*4+4, two norms of 8, network 4*8+8 + 8*4+4
    layer = 60 + 20 + 16 + 40 + 36
    assert sum(p.numel() for p in make(layers=2).parameters()) == 4 + 3 * 4 + 15 + 8 + 2 * layer


def test_it_finds_the_one_token_that_counts_where_the_mean_does_not(cases):
    full, present, label = cases.marked()
    torch.manual_seed(0)
    transformer = TokenTransformer(["a"], dim=4, state_dim=16, heads=2, dropout=0.0)
    concat = Concat(["a"], dim=4, state_dim=16, dropout=0.0)
    assert cases.learn(transformer, full, present, label) > 0.95
    assert cases.learn(concat, full, present, label) < 0.85
