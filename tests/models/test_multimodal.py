"""The whole model on records with holes: from what a table may hold to the answer, with both fusions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import SCHEMA, make_encoders, make_model, make_record, make_records
from torch import nn

from mmmed.data.collate import Collator
from mmmed.fusion.multimodn import MultiModN
from mmmed.models.multimodal import MultimodalModel
from mmmed.types import Batch, Binary, Record, Tokens

collate = Collator(SCHEMA)


@pytest.fixture
def model(fusion):
    return make_model(fusion)


@pytest.fixture
def batch():
    return collate(make_records())


def same(left, right, atol=1e-6):
    for task in SCHEMA.tasks:
        torch.testing.assert_close(left.steps[task], right.steps[task], atol=atol, rtol=0)


def identical(left, right):
    return all(torch.equal(left.steps[task], right.steps[task]) for task in SCHEMA.tasks)


EMPTY = [None, float("nan"), "", "  ", np.float32("nan"), [], {}]


@pytest.mark.parametrize("spelling", EMPTY, ids=repr)
@pytest.mark.parametrize("name", SCHEMA.modalities)
def test_however_absence_is_spelled_the_answer_is_the_same_bit_by_bit(model, name, spelling):
    whole = make_record(0, np.random.default_rng(3))
    mate = make_record(1, np.random.default_rng(4))
    gone = model(collate([whole.without(name), mate]))
    spelled = model(collate([whole.with_input(name, spelling), mate]))
    assert identical(gone, spelled)


@pytest.mark.parametrize("spelling", [None, float("nan"), "", " ", "nan", "NaN"], ids=repr)
def test_however_an_empty_cell_is_spelled_the_answer_is_the_same_bit_by_bit(model, spelling):
    record = make_record(0, np.random.default_rng(3))
    table = dict(record.inputs["table"])
    spelled = model(collate([record.with_input("table", {**table, "crp": spelling})]))
    del table["crp"]
    assert identical(model(collate([record.with_input("table", table)])), spelled)


def test_a_table_of_empty_cells_is_no_table(model):
    record = make_record(0, np.random.default_rng(3))
    emptied = record.with_input("table", {"age": None, "crp": float("nan"), "sex": ""})
    assert emptied.present == ("image", "note")
    assert identical(model(collate([emptied])), model(collate([record.without("table")])))


def test_hiding_in_a_batch_equals_never_having_it(model, batch):
    records = make_records()
    draw = torch.Generator().manual_seed(1)
    stays = torch.rand(len(records), 3, generator=draw) < 0.5
    hidden = [
        r.without(*(n for n, s in zip(SCHEMA.modalities, row, strict=True) if not s))
        for r, row in zip(records, stays.tolist(), strict=True)
    ]
    kept, never = batch.keep(stays), collate(hidden)
    assert torch.equal(kept.present, never.present)
    same(model(kept), model(never))


def poison(batch, index, name):
    """The same batch with NaN in everything that record `index` brings for a modality."""
    position = (batch.rows[name] == index).nonzero().item()
    values = {key: value.clone() for key, value in batch.values[name].items()}
    for value in values.values():
        if value.is_floating_point():
            value[position] = torch.nan
    return replace(batch, values={**batch.values, name: values})


def test_nan_in_a_hidden_row_reaches_neither_the_answer_nor_any_gradient(model, batch):
    index = batch.rows["image"][0].item()
    stays = torch.ones_like(batch.present)
    stays[index, 0] = False
    results = []
    for content in (batch, poison(batch, index, "image")):
        model.zero_grad()
        outputs = model(content.keep(stays))
        sum(outputs[task].square().sum() for task in outputs).backward()
        results.append((outputs, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (clean, gradients), (poisoned, others) = results
    assert identical(clean, poisoned)
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(gradients, others, strict=True))


def test_the_test_above_would_see_nan_if_the_row_were_not_hidden(model, batch):
    index = batch.rows["image"][0].item()
    assert model(poison(batch, index, "image"))["sick"][index].isnan().all()


def test_a_mixed_batch_is_the_same_as_its_records_one_by_one(model, batch):
    together, records = model(batch), make_records()
    for index, record in enumerate(records):
        alone = model(collate([record]))
        taken = model(batch.only(index))
        for task in SCHEMA.tasks:
            torch.testing.assert_close(alone.steps[task][0], together.steps[task][index], atol=1e-6, rtol=0)
            torch.testing.assert_close(taken.steps[task][0], together.steps[task][index], atol=1e-6, rtol=0)


def test_the_order_of_the_records_does_not_matter(model):
    records = make_records()
    order = np.random.default_rng(0).permutation(len(records))
    straight, turned = model(collate(records)), model(collate([records[i] for i in order]))
    for task in SCHEMA.tasks:
        torch.testing.assert_close(turned.steps[task], straight.steps[task][order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SCHEMA.modalities)
def test_an_encoder_without_rows_does_not_run_and_gets_no_gradient(model, batch, name, training):
    model.train(training)
    outputs = model(batch.hide(name))
    sum(outputs[task].sum() for task in outputs).backward()
    assert all(p.grad is None for p in model.encoders[name].parameters())
    assert all(o.isfinite().all() for o in outputs.steps.values())


def test_with_nothing_recorded_everybody_gets_the_prior_of_the_model(model, batch):
    prior = model(batch)
    outputs = model(collate([Record("a", {}), Record("b", {"table": {}})]))
    for task in SCHEMA.tasks:
        torch.testing.assert_close(outputs[task][0], prior.steps[task][0, 0], atol=1e-6, rtol=0)
        torch.testing.assert_close(outputs[task][1], outputs[task][0], atol=0, rtol=0)


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_none_gives_no_answers(model, training):
    outputs = model.train(training)(collate([]))
    assert {task: tuple(outputs[task].shape) for task in outputs} == {
        "sick": (0, 1),
        "stage": (0, 3),
        "signs": (0, 2),
        "days": (0, 1),
    }


def test_the_sequential_model_equals_one_that_never_had_the_modality():
    whole = make_model("multimodn")
    smaller = make_model("multimodn", SCHEMA.without("table"))
    state = {
        k: v for k, v in whole.state_dict().items() if ".table." not in k or k.startswith("encoders.note")
    }
    smaller.load_state_dict(state)
    records = [record.without("table") for record in make_records()]
    left, right = whole(collate(records)), smaller(Collator(SCHEMA.without("table"))(records))
    assert all(torch.equal(left[task], right[task]) for task in SCHEMA.tasks)


def test_an_order_is_handed_to_the_fusion():
    model, batch = make_model("multimodn"), collate(make_records(missing=0.0))
    turned = model(batch, order=("note", "table", "image"))
    assert turned.fused.order == ("note", "table", "image")
    assert not torch.allclose(turned["sick"], model(batch)["sick"])
    orders = torch.tensor([[2, 1, 0]]).expand(len(batch), 3)
    same(model(batch, order=orders), turned)


def test_ready_tokens_pass_and_plain_tensors_count_as_one_token(model, batch):
    tokens = model.encode(batch)
    ready = replace(batch, values=tokens)
    assert identical(model(ready), model(batch))
    plain = MultimodalModel({"a": nn.Linear(3, 8)}, MultiModN(["a"], dim=8), {"y": nn.Linear(64, 1)}).eval()
    values, rows = torch.randn(2, 3), torch.arange(2)
    encoded = plain.encode(Batch(("a",), {"a": values}, {"a": rows}, torch.ones(2, 1, dtype=torch.bool)))["a"]
    assert isinstance(encoded, Tokens)
    torch.testing.assert_close(encoded.mean(), plain.encoders["a"](values))


def test_a_batch_in_another_order_of_modalities_is_refused(model):
    # Its columns of `present` would be read as those of other modalities, without any other sign.
    turned = replace(SCHEMA, modalities=dict(reversed(SCHEMA.modalities.items())))
    with pytest.raises(ValueError, match=r"reads image, table, note in this order.*holds note, table, image"):
        model(Collator(turned)(make_records()))


def test_parts_that_do_not_fit_are_named():
    encoders = make_encoders()
    heads = {task: nn.Linear(8, 1) for task in SCHEMA.tasks}
    with pytest.raises(ValueError, match="same modalities, got image, table, note and image, table"):
        MultimodalModel(encoders, MultiModN(["image", "table"]), heads)
    with pytest.raises(ValueError, match="in the same order"):
        MultimodalModel(encoders, MultiModN(["note", "table", "image"]), heads, SCHEMA)
    with pytest.raises(ValueError, match="asks sick, stage, signs, days, the heads answer sick"):
        MultimodalModel(encoders, MultiModN(["image", "table", "note"]), {"sick": nn.Linear(8, 1)}, SCHEMA)


def test_tasks_and_modalities_may_be_called_like_a_method_of_torch(fusion):
    schema = replace(SCHEMA, tasks={"type": Binary("type"), "values": Binary("other")})
    outputs = make_model(fusion, schema)(Collator(schema)([make_record(0, np.random.default_rng(0))]))
    assert set(outputs) == {"type", "values"}


def test_steps_of_outputs_end_at_the_answer(model, batch):
    outputs = model(batch)
    for task in outputs:
        assert torch.equal(outputs.steps[task][:, -1], outputs[task])
        assert outputs.steps[task].shape[:2] == outputs.fused.steps.shape[:2]
