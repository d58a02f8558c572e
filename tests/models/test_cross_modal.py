"""Cross-modal retrieval: what the loss ignores, what pooling keeps, and a linear problem that it learns."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mmmed.evaluation.retrieval import recall_at_k
from mmmed.models.cross_modal import BagOfWords, pooled_inputs
from mmmed.training.contrast import fit_cross_modal, info_nce
from mmmed.types import Tokens


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_loss_without_groups_is_cross_entropy_both_ways():
    similarity = torch.randn(6, 6, generator=seeded())
    target = torch.arange(6)
    expected = (cross_entropy(similarity, target) + cross_entropy(similarity.T, target)) / 2
    torch.testing.assert_close(info_nce(similarity), expected)
    torch.testing.assert_close(info_nce(similarity, target), expected)


def test_patients_with_the_same_report_are_not_each_others_negatives():
    similarity = torch.randn(4, 4, generator=seeded())
    groups = torch.tensor([0, 0, 1, 2])
    louder = similarity.clone()
    louder[0, 1] = louder[1, 0] = 50.0  # twins
    torch.testing.assert_close(info_nce(louder, groups), info_nce(similarity, groups))
    assert info_nce(louder) > info_nce(similarity) + 1
    strangers = similarity.clone()
    strangers[0, 2] = 50.0
    assert info_nce(strangers, groups) > info_nce(similarity, groups) + 1


def test_a_batch_of_twins_teaches_nothing():
    similarity = torch.randn(3, 3, generator=seeded(), requires_grad=True)
    loss = info_nce(similarity, torch.zeros(3, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert not similarity.grad.any()


def test_pooling_skips_padding_and_marks_what_is_absent():
    image = Tokens(
        torch.tensor([[[1.0], [3.0]], [[5.0], [99.0]]]), torch.tensor([[True, True], [True, False]])
    )
    note = Tokens(torch.tensor([[[7.0]]]), torch.tensor([[True]]))
    present = torch.tensor([[True, False], [True, True], [False, False]])
    rows = {"image": torch.tensor([0, 1]), "note": torch.tensor([1])}
    dims = {"image": 1, "note": 1}
    pooled = pooled_inputs({"image": image, "note": note}, rows, present, dims)
    assert pooled.tolist() == [[2, 1, 0, 0], [5, 1, 7, 1], [0, 0, 0, 0]]
    without_notes = pooled_inputs({"image": image}, rows, present & torch.tensor([True, False]), dims)
    assert without_notes.tolist() == [[2, 1, 0, 0], [5, 1, 0, 0], [0, 0, 0, 0]]


def test_the_units_of_a_feature_do_not_matter():
    inputs, texts = torch.randn(40, 5, generator=seeded(1)), torch.randn(40, 3, generator=seeded(2))
    plain = fit_cross_modal(inputs, texts, epochs=2, generator=seeded())
    scaled = fit_cross_modal(inputs * 1000 + 7, texts, epochs=2, generator=seeded())
    torch.testing.assert_close(plain(inputs, texts), scaled(inputs * 1000 + 7, texts), rtol=1e-3, atol=1e-3)


def test_the_same_generator_gives_the_same_model_and_leaves_global_chance_alone():
    inputs, texts = torch.randn(20, 4, generator=seeded(1)), torch.randn(20, 4, generator=seeded(2))
    before = torch.get_rng_state()
    first, second = (fit_cross_modal(inputs, texts, epochs=2, generator=seeded()) for _ in range(2))
    assert torch.equal(first(inputs, texts), second(inputs, texts))
    other = fit_cross_modal(inputs, texts, epochs=2, generator=seeded(5))
    assert not torch.equal(first(inputs, texts), other(inputs, texts))
    assert torch.equal(torch.get_rng_state(), before)


def linear_problem(n=700, seed=0):
    """Eight hidden numbers behind both sides; the input drowns them in twelve loud numbers of its own."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 8))
    loud = rng.normal(size=(n, 24)) @ rng.normal(size=(24, 32))
    inputs = hidden @ rng.normal(size=(8, 32)) + 1.5 * loud
    texts = hidden @ rng.normal(size=(8, 20)) + 0.1 * rng.normal(size=(n, 20))
    return inputs.astype(np.float32), texts.astype(np.float32)


def test_a_linear_problem_is_learned_better_than_chance_and_nearest_neighbour():
    inputs, texts = linear_problem()
    train, test = slice(0, 600), slice(600, 700)
    model = fit_cross_modal(inputs[train], texts[train], dim=16, epochs=60, generator=seeded())
    with torch.no_grad():
        learned = model(torch.tensor(inputs[test]), torch.tensor(texts[test])).numpy()
    # the nearest training patient's text, compared with the candidates
    nearest = ((inputs[test][:, None] - inputs[train]) ** 2).sum(-1).argmin(1)
    neighbour = -((texts[train][nearest][:, None] - texts[test]) ** 2).sum(-1)
    mine, theirs = (recall_at_k(s, ks=(5,), draws=20)[0]["recall at 5"].value for s in (learned, neighbour))
    assert mine > 0.5  # chance 0.05
    assert mine > theirs + 0.2


def test_bag_of_words_tells_a_finding_from_its_denial_and_needs_known_words_only():
    texts = ["Effusion on the left.", "No effusion.", "Nodule seen.", "No effusion. Nodule seen."] * 3
    words = BagOfWords(texts, dim=3)
    values = words(["Effusion on the left.", "No effusion.", "zzz", ""])
    assert values.shape == (4, 3)
    assert (values[0] - values[1]).norm() > 0.3
    assert not values[2:].any()
    torch.testing.assert_close(words(texts), BagOfWords(texts, dim=3)(texts))
    with pytest.raises(ValueError, match="hold no word"):
        BagOfWords(["", "."])


@pytest.mark.parametrize(
    ("inputs", "texts", "groups", "words"),
    [
        (np.zeros((3, 2)), np.zeros((2, 2)), None, "One text per row"),
        (np.zeros((1, 2)), np.zeros((1, 2)), None, "number of pairs"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), None, "not finite"),
        (np.zeros((3, 2)), np.zeros((3, 2)), ["a"], "groups should have 3"),
        (np.zeros(3), np.zeros((3, 2)), None, "n dim"),
    ],
)
def test_what_cannot_be_fitted_is_said(inputs, texts, groups, words):
    with pytest.raises(ValueError, match=words):
        fit_cross_modal(inputs, texts, groups, epochs=1, generator=seeded())


def test_the_temperature_stays_below_its_bound_and_can_come_back():
    from mmmed.models.cross_modal import HOTTEST

    rows = torch.eye(6)
    hot = fit_cross_modal(rows, rows, epochs=40, lr=0.5, generator=seeded())
    assert float(hot.log_scale) <= HOTTEST + 1e-6
    hot(rows, rows).square().mean().backward()
    assert float(hot.log_scale.grad) > 0  # at the bound it is not stuck
