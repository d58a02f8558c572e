"""From a cohort without labels to encoders: what is read of each view, what comes out, what it is good
for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SCHEMA, PixelEncoder, TinyCohort, WordEncoder, make_cohort, make_records

from mmmed.data.collate import Collator
from mmmed.models.create import create_model
from mmmed.models.inference import predict_proba
from mmmed.pretraining.features import CellFeatures, PixelFeatures, TokenFeatures, draw_hidden
from mmmed.pretraining.pretrain import pretrain_views, take
from mmmed.pretraining.views import DisentangledViews, Views
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.types import Image, Schema, Text

FAST = Optimisation(lr=3e-3, weight_decay=0.01, batch_size=32)


class Batched(TinyCohort):
    """The small cohort, with the two ways to collate that pretraining uses."""

    def __getitem__(self, key):
        part = super().__getitem__(key)
        return Batched(part.records, part.schema, part.splits) if isinstance(key, str) else part

    def collate(self, records):
        return Collator(self.schema)(records)

    def batches(self, size=64):
        for start in range(0, len(self), size):
            yield self.collate(self.records[start : start + size])


def batched(count=60, **options):
    cohort = make_cohort(count, **options)
    return Batched(cohort.records, cohort.schema, cohort.splits)


@pytest.fixture(scope="module")
def pretrained():
    return pretrain_views(batched(90), epochs=10, consistent=6, specific=4, optimisation=FAST)


def test_both_stages_learn_and_labels_are_not_read(pretrained):
    losses = {k: [line["train_loss"] for line in pretrained.history if line["stage"] == k] for k in (1, 2)}
    assert losses[1][-1] < losses[1][0]
    assert losses[2][-1] < losses[2][0]
    bare = [type(r)(r.id, r.inputs, {}, group=r.group) for r in batched(90).records]
    other = pretrain_views(
        Batched(bare, SCHEMA, batched(90).splits), epochs=10, consistent=6, specific=4, optimisation=FAST
    )
    for name, tensor in other.model.state_dict().items():
        assert torch.equal(tensor, pretrained.model.state_dict()[name])


def test_the_encoders_serve_in_a_model_frozen_and_not(pretrained):
    cohort = make_cohort(60)
    model = create_model(SCHEMA, encoders=pretrained.encoders(dim=16), dim=16, state_dim=8)
    before = {n: t.clone() for n, t in model.encoders["table"].state_dict().items()}
    finetune(model, cohort, epochs=1, frozen=("table",), progress=False)
    assert all(torch.equal(t, before[n]) for n, t in model.encoders["table"].state_dict().items())
    assert np.isfinite(predict_proba(model, cohort)["sick"]).all()
    batch = Collator(SCHEMA)([r for r in make_records(30) if "image" in r.inputs][:3])
    tokens = model.encode(batch)["image"]
    assert tokens.values.shape == (3, 2, 16)


def test_codes_and_encoders_are_not_shared_between_two_models(pretrained):
    first, second = pretrained.encoders(), pretrained.encoders()
    with torch.no_grad():
        first["table"].code.weight.zero_()
    assert (second["table"].code.weight != 0).any()
    assert (pretrained.model.code.weight != 0).any()


def test_the_tokens_keep_the_codes_and_need_no_other_record(pretrained):
    records = [r for r in make_records(30) if "table" in r.inputs][:5]
    cohort = Batched([r.only("table") for r in records], SCHEMA, ["test"] * 5)
    codes = pretrained.codes(cohort)
    encoder = pretrained.encoders(dim=16)["table"]
    tokens = encoder(**Collator(SCHEMA)(cohort.records).values["table"]).values.detach()
    shared, own = (layer.weight.detach() for layer in encoder.project)
    torch.testing.assert_close(
        tokens[:, 0] @ shared, codes["consistent"]
    )  # orthonormal: the transpose undoes it
    torch.testing.assert_close(tokens[:, 1] @ own, codes["table"])
    alone = encoder(**Collator(SCHEMA)(cohort.records[:1]).values["table"]).values.detach()
    torch.testing.assert_close(alone, tokens[:1])


def test_a_record_without_anything_has_the_prior(pretrained):
    record = make_records(1)[0]
    cohort = Batched([record.only()], SCHEMA, ["test"])
    assert all((code == 0).all() for code in pretrained.codes(cohort).values())


def separated(learned, cohort):
    """Accuracy of a linear guess of sickness from the shared code, on records that the guess was not fitted
    to."""
    code = learned.codes(cohort)["consistent"].numpy()
    sick = np.array([record.targets["sick"] for record in cohort.records])
    design = np.hstack([code, np.ones((len(code), 1))])
    guess = design @ np.linalg.lstsq(design[:150], sick[:150], rcond=None)[0]
    return ((guess > 0.5) == sick)[150:].mean()


def test_the_shared_code_finds_what_the_views_share():
    # sickness shows in every view and is what they have in common; nobody told
    cohort = batched(300, missing=0.2, unknown=0.0)
    learned = pretrain_views(cohort, epochs=15, consistent=2, specific=2, optimisation=FAST)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fresh = DisentangledViews(learned.model.features, 2, 2).eval()
    assert separated(learned, cohort) > 0.77  # measured 0.83
    assert separated(replace(learned, model=fresh), cohort) < 0.7  # measured 0.61


def test_some_records_of_the_views_are_those_records():
    present = torch.tensor([[True, False], [True, True], [False, True], [False, False]])
    values = {"a": torch.tensor([[0.0], [1.0]]), "b": torch.tensor([[10.0], [20.0]])}
    known = {name: torch.ones(2, 1, dtype=torch.bool) for name in values}
    rows = {"a": torch.tensor([0, 1]), "b": torch.tensor([1, 2])}
    part = take(Views(("a", "b"), values, known, rows, present), torch.tensor([3, 2, 0]))
    assert part.present.tolist() == [[False, False], [False, True], [True, False]]
    assert (part.values["a"].tolist(), part.rows["a"].tolist()) == ([[0]], [2])
    assert (part.values["b"].tolist(), part.rows["b"].tolist()) == ([[20]], [1])


# -------------------------------------------------------------------------------------- what is read


def test_cells_become_numbers_and_levels_and_unknown_ones_nothing():
    features = CellFeatures((None, 3, None))
    cells = torch.tensor([[0.5, 2.0, 9.0], [1.0, float("nan"), -1.0]])
    known = torch.tensor([[True, True, False], [True, False, True]])
    numbers, seen = features.read({"cells": cells, "known": known})
    assert numbers[0].tolist() == [0.5, 0, 0, 1, 0]
    assert seen.tolist() == [[True, True, True, True, False], [True, False, False, False, True]]
    assert features.groups.tolist() == [0, 1, 1, 1, 2]


def test_standardising_uses_known_cells_only_and_leaves_constants():
    features = CellFeatures((None, None))
    raw = torch.tensor([[1.0, 5.0], [3.0, 5.0], [99.0, 5.0]])
    known = torch.tensor([[True, True], [True, True], [False, True]])
    features.adapt(raw, known)
    assert features.mean.tolist() == [2, 5]
    assert features.scale.tolist() == [1, 1]


def test_a_picture_is_the_mean_of_its_real_views_made_small_and_masked_in_squares():
    features = PixelFeatures(1, (4, 4), patch=2)
    pixels = torch.arange(64.0).reshape(1, 1, 1, 8, 8).repeat(1, 2, 1, 1, 1)
    pixels[:, 1] = float("nan")
    numbers, known = features.read({"pixels": pixels, "views": torch.tensor([[True, False]])})
    assert numbers[0, :2].tolist() == [4.5, 6.5]  # mean of 0, 1, 8, 9
    assert known.all()
    assert features.groups.reshape(4, 4).tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


def test_whole_groups_are_hidden_the_same_number_in_every_record():
    groups = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9])
    hidden = draw_hidden(groups, 50, 0.7, torch.Generator().manual_seed(0))
    for group in range(10):
        assert (hidden[:, groups == group].all(1) == hidden[:, groups == group].any(1)).all()
    first = torch.tensor([int((groups == g).nonzero()[0]) for g in range(10)])
    assert (hidden[:, first].sum(1) == 7).all()
    assert len(hidden.unique(dim=0)) > 20


def test_a_frozen_encoder_stays_frozen_in_training():
    source = PixelEncoder(144, 8, dropout=0.5)
    features = TokenFeatures(source, 8).train()
    values = {"pixels": torch.rand(2, 1, 1, 12, 12), "views": torch.ones(2, 1, dtype=torch.bool)}
    assert torch.equal(features.read(values)[0], features.read(values)[0])
    assert not any(p.requires_grad for p in features.parameters())
    assert any(p.requires_grad for p in source.parameters())


def test_words_need_a_frozen_encoder_and_then_can_be_a_view():
    schema = Schema({"image": Image("p", size=(12, 12)), "note": Text("n", 4, ("[PAD]", "[UNK]", "a", "b"))})
    records = [type(r)(r.id, {"image": r.inputs["image"], "note": "a b"}) for r in make_records(9, missing=0)]
    cohort = Batched(records, schema, ["train"] * 9)
    with pytest.raises(ValueError, match="nothing to rebuild of 'note'"):
        pretrain_views(cohort, epochs=1)
    learned = pretrain_views(cohort, epochs=1, frozen={"note": WordEncoder(4)})
    assert learned.model.features == {"image": 144, "note": 8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masked": 2.0}, "masked"),
        ({"epochs": 0}, "epochs"),
        ({"frozen": {"tabel": PixelEncoder()}}, "table"),
        ({"consistent": 0}, "consistent"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        pretrain_views(batched(30), **options)
