"""The grounding gap: what a report gains from being about this patient and not about another one."""

import numpy as np
import pytest
import torch
from small_reporter import by_pattern, make_cohort, make_reporter, shaken

from mmmed.data.collate import Collator
from mmmed.evaluation.grounding import Grounding, _partners, grounding
from mmmed.language.questions import ASK_REPORT
from mmmed.models.inference import asking
from mmmed.models.report_writing import segments_of
from mmmed.types import Batch

EVERY = (("image", "table", "text"), ("image", "table"), ("text",), ("table", "text"), ("image",))


@pytest.fixture(scope="module")
def cohort():
    """Twelve patients of two or three visits, in five patterns."""
    return by_pattern(make_cohort(patients=12, visits=(2, 3)), EVERY, every=3)


@pytest.fixture(scope="module")
def reporter(cohort):
    return shaken(make_reporter(cohort), 0.3)


@pytest.fixture(scope="module")
def measured(reporter, cohort):
    return grounding(reporter, cohort)


def loss_of(reporter, record, text, present):
    """One record through the whole network, alone: [tokens]."""
    ids = [*reporter.tokenizer.encode(reporter.filter(text, present).strip()), reporter.tokenizer.eos]
    with asking(reporter.network):
        batch = Collator(reporter.schema)([record])
        losses = reporter.network(batch, segments_of(reporter, [ASK_REPORT]), [ids], reporter.tokenizer.bos)
    return losses[0, -len(ids) :].double().numpy()


@pytest.mark.parametrize("what", ["all", "image", "table", "text"])
def test_the_gap_equals_a_loop_over_records(reporter, cohort, what):
    generator, again = (torch.Generator().manual_seed(5) for _ in range(2))
    names = () if what == "all" else (what,)
    found = grounding(reporter, cohort, generator=generator, modalities=names)
    present = torch.tensor(cohort.present)
    facts = Batch(reporter.modalities, {}, {}, present)
    groups = np.array(cohort.groups)
    everything = _partners(facts, [0, 1, 2], groups, again)  # "all" comes first and draws first
    columns = [0, 1, 2] if what == "all" else [reporter.modalities.index(what)]
    partner = everything if what == "all" else _partners(facts, columns, groups, again)
    rise = tokens = 0.0
    for row, text in enumerate(cohort.column("report")):
        record, other = cohort[row], int(partner[row])
        own = loss_of(reporter, record, text, record.present)
        assert found.own[row] == pytest.approx(own.sum(), abs=1e-3)
        assert found.tokens[row] == len(own)
        if other < 0:
            assert np.isnan(found.others[what][row])
            continue
        theirs = record
        for name in reporter.modalities if what == "all" else (what,):
            if name in record.present:
                theirs = theirs.with_input(name, cohort[other].inputs[name])
        rise += loss_of(reporter, theirs, text, record.present).sum() - own.sum()
        tokens += len(own)
    assert found.gap(what, draws=5).value == pytest.approx(rise / tokens, abs=1e-5)
    assert abs(rise / tokens) > 1e-4


def test_a_blind_generator_has_no_gap_at_all(reporter, cohort):
    reporter.blind = True
    try:
        found = grounding(reporter, cohort)
    finally:
        reporter.blind = False
    for what in ("all", "image", "table", "text"):
        gap = found.gap(what, draws=20)
        assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)


def test_no_patient_is_its_own_partner_and_partners_have_the_same_modalities(cohort):
    groups, present = np.array(cohort.groups), torch.tensor(cohort.present)
    facts = Batch(("image", "table", "text"), {}, {}, present)
    for columns in ([0, 1, 2], [0], [1], [2]):
        for seed in range(20):
            partner = _partners(facts, columns, groups, torch.Generator().manual_seed(seed))
            has = partner >= 0
            assert (groups[has.numpy()] != groups[partner[has].numpy()]).all()
            assert torch.equal(present[has][:, columns], present[partner[has]][:, columns])
            assert not has[~present[:, columns].any(1)].any()


def test_whoever_could_have_a_partner_has_one():
    """Five records of one patient and one of another: a single rotation would leave most without."""
    facts = Batch(("image",), {}, {}, torch.ones(6, 1, dtype=torch.bool))
    groups = np.array(["a"] * 5 + ["b"])
    for seed in range(10):
        partner = _partners(facts, [0], groups, torch.Generator().manual_seed(seed))
        assert partner.tolist()[:5] == [5] * 5
        assert partner[5] < 5


def test_with_one_patient_there_is_no_gap_to_speak_of(reporter, cohort):
    groups = np.array(cohort.groups)
    found = grounding(reporter, cohort.where(groups == groups[0]))
    assert np.isnan(found.others["all"]).all()
    gap = found.gap(draws=20)
    assert np.isnan(gap.value)
    assert str(gap) == "-"
    assert "all" in str(found.table(draws=20))
    assert np.isfinite(found.loss)


def test_a_modality_counts_only_where_it_is_there(measured, cohort):
    present = np.array(cohort.present)
    for column, name in enumerate(("image", "table", "text")):
        assert np.isnan(measured.others[name][~present[:, column]]).all()
        assert not np.isnan(measured.others[name][present[:, column]]).any()
        assert measured.gap(name, draws=20).n == present[:, column].sum()


def test_what_a_missing_input_would_be_needed_for_is_not_scored(reporter, cohort, measured):
    row = next(row for row in range(len(cohort)) if cohort[row].present == ("text",))
    whole = cohort.column("report")[row]
    history = reporter.filter(whole, ("text",))
    assert "LDH" in whole
    assert "LDH" not in history
    assert measured.tokens[row] == len(reporter.tokenizer.encode(history)) + 1


def test_the_interval_is_drawn_by_patient():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(8).astype(str), 20)
    rise = np.repeat(generator.normal(1, 1, 8), 20)  # all records of a patient tell the same
    tokens = np.ones(160, int)
    by_patient = Grounding(np.zeros(160), {"all": rise}, tokens, groups).gap()
    by_record = Grounding(np.zeros(160), {"all": rise}, tokens, np.arange(160).astype(str)).gap()
    assert by_patient.value == by_record.value == pytest.approx(rise.mean())
    assert (by_patient.groups, by_patient.n) == (8, 160)
    assert by_patient.high - by_patient.low > 3 * (by_record.high - by_record.low)


def test_the_gap_is_per_token_and_not_per_report():
    long_and_short = Grounding(
        np.array([10.0, 1.0]), {"all": np.array([40.0, 2.0])}, np.array([30, 1]), np.array(["a", "b"])
    )
    assert long_and_short.gap(draws=5).value == pytest.approx(31 / 31)
    assert long_and_short.loss == pytest.approx(11 / 31)


def test_only_so_many_records_are_looked_at_as_asked(reporter, cohort):
    assert len(grounding(reporter, cohort, most=5, modalities=()).own) == 5


def test_records_without_a_report_and_batch_sizes_change_nothing(reporter, cohort, measured):
    small = grounding(reporter, cohort, batch_size=5)
    np.testing.assert_allclose(small.own, measured.own, atol=1e-3)
    np.testing.assert_allclose(small.others["all"], measured.others["all"], atol=1e-3)


def test_nobody_has_no_loss_and_no_gap(reporter, cohort):
    found = grounding(reporter, cohort.where(np.zeros(len(cohort), bool)))
    assert found.loss == 0
    assert np.isnan(found.gap(draws=5).value)


def test_a_report_that_is_too_long_is_scored_as_far_as_it_fits(reporter, cohort):
    long = make_reporter(
        cohort, language_model=("small", {"width": 32, "layers": 1, "heads": 2, "length": 100})
    )
    found = grounding(long, cohort)
    assert found.tokens.max() < 100 - 20
    assert np.isfinite(found.own).all()
