"""A finding is judged from the modalities that can show it, for each patient alone, and from nothing else."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from mmmed.heads.findings import FindingAttention, FindingHead
from mmmed.types import Tokens

LABELS = ("nodule", "cough", "raised ldh", "anything")
NEEDS = {"nodule": ("image",), "cough": ("text",), "raised ldh": ("table",)}


def draw(rows, tokens, seed=0, real=None):
    mask = torch.ones(rows, tokens, dtype=torch.bool)
    for row, count in enumerate(real or ()):
        mask[row, count:] = False
    return Tokens(torch.randn(rows, tokens, 8, generator=torch.Generator().manual_seed(seed)), mask)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return FindingHead(LABELS, ("image", "text"), 8, NEEDS, {"image": (2, 3)}).eval()


@pytest.fixture
def patients():
    """Four patients: both, image, text, none."""
    tokens = {"image": draw(2, 6), "text": draw(2, 5, 1, real=(5, 3))}
    return tokens, {"image": torch.tensor([0, 1]), "text": torch.tensor([0, 2])}


def test_a_patient_is_judged_alone(head, patients):
    tokens, rows = patients
    logits, assessable = head(tokens, rows, 4)
    for patient in range(4):
        place = {name: (positions == patient).nonzero().squeeze(1) for name, positions in rows.items()}
        own = {name: tokens[name][index] for name, index in place.items() if len(index)}
        alone = head(own, {name: torch.zeros(1, dtype=torch.long) for name in own}, 1)
        torch.testing.assert_close(alone[0][0], logits[patient])
        assert torch.equal(alone[1][0], assessable[patient])


def test_a_finding_is_assessable_where_a_modality_that_can_show_it_is_there(head, patients):
    logits, assessable = head(*patients, 4)
    nothing = [False, False, False, False]
    assert assessable.tolist() == [
        [True, True, False, True],  # a label without an entry may be shown by any
        [True, False, False, True],
        [False, True, False, True],
        nothing,  # and the laboratory is not read by this network at all
    ]
    assert (logits[~assessable] == 0).all()


def test_scores_of_several_modalities_add_up(head, patients):
    tokens, rows = patients
    both = head(tokens, rows, 4)[0][0, 3]
    alone = [head({name: tokens[name]}, {name: rows[name]}, 4)[0][0, 3] for name in tokens]
    torch.testing.assert_close(both, sum(alone))


def test_padding_is_not_looked_at(head, patients):
    tokens, rows = patients
    text = tokens["text"]
    filled = Tokens(text.values.masked_fill(~text.mask.unsqueeze(2), 1e6), text.mask)
    torch.testing.assert_close(head({**tokens, "text": filled}, rows, 4), head(tokens, rows, 4))


def test_attention_equals_a_loop_over_labels_and_tokens():
    torch.manual_seed(1)
    attention, tokens = FindingAttention(3, 8, places=4).eval(), draw(2, 8)
    torch.nn.init.normal_(attention.place)
    fast = attention(tokens)
    values = attention.norm(tokens.values)
    for row in range(2):
        for label in range(3):
            looks = [
                attention.look.weight[label] @ values[row, token] + attention.place[token % 4, label]
                for token in range(8)  # two views of four places, which share their prior
            ]
            weights = torch.stack(looks).softmax(0)
            scores = torch.stack([attention.score(values[row, token])[label] for token in range(8)])
            torch.testing.assert_close(fast[row, label], weights @ scores)


def test_the_prior_of_a_place_moves_where_a_label_looks():
    attention = FindingAttention(2, 8, places=4).eval()
    with torch.no_grad():
        attention.place[2, 1] = 50.0
    maps = attention.maps(attention.norm(draw(3, 8).values), torch.ones(3, 8, dtype=torch.bool))
    assert (maps[:, [2, 6], 1].sum(1) > 0.999).all()  # the same place of both views
    assert (maps[:, [2, 6], 0].sum(1) < 0.999).all()
    torch.testing.assert_close(maps.sum(1), torch.ones(3, 2))


def test_labels_that_no_modality_can_show_are_refused():
    with pytest.raises(ValueError, match="No finding can be shown by any of text"):
        FindingHead(("nodule",), ("text",), 8, {"nodule": ("image",)})


def test_a_batch_of_nobody_is_no_trouble(head):
    logits, assessable = head({}, {}, 0)
    assert logits.shape == assessable.shape == (0, 4)


def test_it_learns_which_place_shows_a_finding():
    """A bright token at place 1 is "upper", at place 3 "lower": no mean over the tokens could tell."""
    generator = torch.Generator().manual_seed(0)
    where = torch.randint(0, 3, (96,), generator=generator)  # 0: nowhere
    values = 0.3 * torch.randn(96, 4, 8, generator=generator)
    values[torch.arange(96), (2 * where - 1).clamp(min=0), 0] += 3.0 * (where > 0)
    targets = torch.stack([where == 1, where == 2], 1).float()
    torch.manual_seed(0)
    head = FindingHead(("upper", "lower"), ("image",), 8, grids={"image": (2, 2)})
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.05)
    tokens, rows = {"image": Tokens(values, torch.ones(96, 4, dtype=torch.bool))}, torch.arange(96)
    for _ in range(60):
        loss = binary_cross_entropy_with_logits(head(tokens, {"image": rows}, 96)[0], targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (((head(tokens, {"image": rows}, 96)[0] > 0).float() == targets).float().mean()) > 0.98
