"""Rules that hide: what they promise to every record, their shares by count, and their traps by hand."""

import json
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.data.missingness import (
    RULES,
    Mechanism,
    drop_one,
    keep_one,
    mar,
    mcar,
    mnar_by_label,
    mnar_by_value,
    natural,
    sequential,
    standard_mechanisms,
    uniforms,
    whole_site,
)
from mmmed.types import Binary, Category, Image, Number, Regression, Schema, Tabular, Text

SCHEMA = Schema(
    {"image": Image("path"), "table": Tabular((Number("crp"), Number("age"))), "text": Text("note")},
    {"sepsis": Binary("sepsis"), "days": Regression("days")},
)
NAMES = list(SCHEMA.modalities)
GOLDEN = 0.06864100414189978  # (BLAKE2b of '0 NUL image NUL a1' as a little-endian number >> 11) * 2**-53


@dataclass
class Hospital:
    """As much of a cohort as the rules use."""

    ids: np.ndarray
    present: np.ndarray
    columns: dict = field(default_factory=dict)
    answers: tuple = ()
    schema: Schema = SCHEMA
    splits: np.ndarray = None

    def __post_init__(self):
        if self.splits is None:
            self.splits = np.full(len(self.ids), "test")

    def __len__(self):
        return len(self.ids)

    def column(self, name):
        return list(self.columns[name])

    def targets(self, task):
        return self.answers

    def where(self, index):
        return Hospital(
            self.ids[index],
            self.present[index],
            {name: [cells[i] for i in index] for name, cells in self.columns.items()},
            tuple(part[index] for part in self.answers),
            self.schema,
            self.splits[index],
        )


def hospital(records=3000, present=1.0, seed=0):
    draw = np.random.default_rng(seed)
    return Hospital(
        ids=np.array([f"p{i}" for i in range(records)]),
        present=draw.random((records, 3)) < present,
        columns={
            "crp": draw.choice([-1.0, 0.0, 1.0], records).tolist(),
            "age": draw.normal(60, 10, records).tolist(),
            "severity": draw.choice([-1, 1], records).tolist(),
            "ward": draw.choice(["icu", "other"], records).tolist(),
        },
        answers=(draw.integers(0, 2, records).astype(float), draw.random(records) < 0.9),
    )


RANDOM_RULES = {
    "mcar": lambda cohort, **more: mcar(cohort, 0.6, **more),
    "mar": lambda cohort, **more: mar(cohort, "table", "severity", 0.3, 0.9, cut=0, **more),
    "by value": lambda cohort, **more: mnar_by_value(cohort, "table", "crp", (0.9, 0.6, 0.3), **more),
    "by label": lambda cohort, **more: mnar_by_label(cohort, "sepsis", "table", 0.3, 0.9, **more),
}
STRICT_RULES = {
    "site": lambda cohort: whole_site(cohort, "image", "ward", "icu"),
    "after": lambda cohort, **more: sequential(cohort, "text", "image", share=0.4, **more),
    "after, as it is": lambda cohort: sequential(cohort, "text", "image"),
}
ALL_RULES = {
    **RANDOM_RULES,
    **STRICT_RULES,
    "natural": natural,
    "drop": lambda cohort: drop_one(cohort, "image"),
    "keep": lambda cohort: keep_one(cohort, "image"),
}


# --------------------------------------------------------------------------------------------------- property


@settings(deadline=None, max_examples=25)
@given(present=st.floats(0.0, 1.0), seed=st.integers(0, 2**40), rule=st.sampled_from(list(ALL_RULES)))
def test_nothing_absent_comes_back(present, seed, rule):
    cohort = hospital(60, present, seed)
    stays = ALL_RULES[rule](cohort)
    assert stays.dtype == bool
    assert stays.shape == cohort.present.shape
    assert not (stays & ~cohort.present).any()


@settings(deadline=None, max_examples=25)
@given(present=st.floats(0.1, 1.0), seed=st.integers(0, 2**40), rule=st.sampled_from(list(RANDOM_RULES)))
def test_a_patient_never_loses_the_last_one(present, seed, rule):
    cohort = hospital(60, present, seed)
    stays = RANDOM_RULES[rule](cohort, seed=seed)
    np.testing.assert_array_equal(stays.any(1), cohort.present.any(1))


def test_without_keep_one_the_last_one_can_go():
    assert not mcar(hospital(50), 1.0, keep_one=False).any()
    assert (mcar(hospital(50), 1.0).sum(1) == 1).all()


@pytest.mark.parametrize("rule", list(ALL_RULES))
def test_a_record_is_treated_the_same_in_any_order(rule):
    cohort = hospital(200, 0.8)
    back = np.arange(199, -1, -1)
    np.testing.assert_array_equal(ALL_RULES[rule](cohort.where(back)), ALL_RULES[rule](cohort)[back])


@pytest.mark.parametrize(
    "rule",
    [name for name in ALL_RULES if name != "by value"],  # its thirds belong to the records at hand
)
def test_a_record_is_treated_the_same_in_any_subset(rule):
    cohort, some = hospital(200, 0.8), np.arange(3, 200, 7)
    np.testing.assert_array_equal(ALL_RULES[rule](cohort.where(some)), ALL_RULES[rule](cohort)[some])


@pytest.mark.parametrize("rule", [*RANDOM_RULES, "after"])
def test_seeds_differ_and_repeat(rule):
    cohort = hospital(200)
    one, again, other = (ALL_RULES[rule](cohort, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("keep", [True, False])
def test_a_larger_share_hides_the_same_and_more(keep):
    cohort = hospital(500, 0.7)
    small, large = mcar(cohort, 0.3, keep_one=keep), mcar(cohort, 0.7, keep_one=keep)
    assert not (large & ~small).any()
    assert large.sum() < small.sum()


def test_the_cohort_itself_is_left_alone():
    cohort = hospital(50)
    before = cohort.present.copy()
    natural(cohort)[:] = False
    for rule in ALL_RULES.values():
        rule(cohort)
    np.testing.assert_array_equal(cohort.present, before)


def test_a_cohort_of_none_is_no_error():
    cohort = hospital(0)
    assert all(ALL_RULES[rule](cohort).shape == (0, 3) for rule in ALL_RULES if rule != "mar")
    assert mar(cohort, "table", "severity", 0.1, 0.5, cut=0).shape == (0, 3)


# --------------------------------------------------------------------------------------------------- uniforms


def test_numbers_are_uniform_and_unrelated():
    draws = uniforms([f"p{i}" for i in range(20_000)], ["a", "b"], seed=3)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws[:, 0], bins=20, range=(0, 1))[0]
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.03


def test_a_number_depends_on_seed_id_and_name_alone():
    draws = uniforms(["p1", "p2"], ["image", "table"], seed=5)
    assert uniforms(["p2"], ["table"], seed=5)[0, 0] == draws[1, 1]
    assert len({*draws.ravel(), *uniforms(["p1", "p2"], ["image", "table"], seed=6).ravel()}) == 8


def test_a_number_never_changes_between_releases():
    assert uniforms(["a1"], ["image"], seed=0)[0, 0] == pytest.approx(GOLDEN, abs=1e-15)


def test_a_hundred_thousand_records_take_about_a_second():
    ids = [f"patient-{i}" for i in range(100_000)]
    start = time.perf_counter()
    uniforms(ids, ["image", "table", "text", "volume"])
    assert time.perf_counter() - start < 4  # measured 0.5 s; the slack is for a busy machine


# ------------------------------------------------------------------------------------------- shares, by count


def hidden(cohort, stays, modality="table"):
    index = NAMES.index(modality)
    return ~stays[:, index]


def test_mcar_hides_its_share_of_every_modality():
    cohort = hospital()
    stays = mcar(cohort, 0.3, keep_one=False)
    assert np.allclose(1 - stays.mean(0), 0.3, atol=0.03)
    only = mcar(cohort, 0.3, modalities=["text"])
    assert only[:, :2].all()
    assert abs(only[:, 2].mean() - 0.7) < 0.03


def test_mar_hides_by_the_observed_column_only():
    cohort = hospital()
    severe = np.array(cohort.columns["severity"]) > 0
    gone = hidden(cohort, mar(cohort, "table", "severity", low=0.25, high=0.70, cut=0))
    assert abs(gone[severe].mean() - 0.70) < 0.04
    assert abs(gone[~severe].mean() - 0.25) < 0.04


def test_mar_cuts_at_the_median_or_at_a_level():
    cohort = hospital()
    cohort.columns["heart_rate"] = np.arange(3000).tolist()
    gone = hidden(cohort, mar(cohort, "table", "heart_rate", low=0.0, high=1.0))
    np.testing.assert_array_equal(gone, np.arange(3000) > 1499.5)
    gone = hidden(cohort, mar(cohort, "table", "ward", low=0.0, high=1.0, cut="icu"))
    np.testing.assert_array_equal(gone, np.array(cohort.columns["ward"]) == "icu")


def test_mnar_by_value_hides_low_values_more_and_shifts_the_observed_mean():
    cohort = hospital(9000)
    values = np.array(cohort.columns["crp"])
    gone = hidden(cohort, mnar_by_value(cohort, "table", "crp", (0.65, 0.40, 0.15)))
    for value, share in ((-1, 0.65), (0, 0.40), (1, 0.15)):
        assert abs(gone[values == value].mean() - share) < 0.04
    # by hand, each value in a third: (-.35 + .85) / (.35 + .60 + .85) = .278
    assert abs(values[~gone].mean() - 0.278) < 0.03


def test_thirds_go_by_rank_of_recorded_values_and_unknown_counts_as_middle():
    cohort = hospital(7)
    cohort.present[6, 1] = False  # its value must not count
    cohort.columns["age"] = [10, 20, 30, 40, 1000, None, -5000]
    cohort.columns["age"][4] = "50"
    stays = mnar_by_value(cohort, "table", "age", (1, 0, 1))
    # ranks of 10 20 30 40 50: middle ranks .1 .3 .5 .7 .9 -> low low middle high high
    assert stays[:, 1].tolist() == [False, False, True, False, False, True, False]


def test_mnar_by_label_and_its_flip():
    cohort = hospital(6000)
    positive, known = cohort.answers[0] > 0.5, cohort.answers[1]
    gone = hidden(cohort, mnar_by_label(cohort, "sepsis", "table", 0.20, 0.55))
    flip = hidden(cohort, mnar_by_label(cohort, "sepsis", "table", 0.20, 0.55, flipped=True))
    assert abs(gone[positive & known].mean() - 0.20) < 0.04
    assert abs(gone[~positive & known].mean() - 0.55) < 0.04
    assert abs(flip[positive & known].mean() - 0.55) < 0.04
    assert abs(flip[~positive & known].mean() - 0.20) < 0.04
    assert abs(gone[~known].mean() - 0.375) < 0.08


def test_presence_alone_tells_the_label_as_the_exact_value_says():
    """.20 / .55: a classifier that sees only presence has AUROC .5 + (.55 - .20) / 2 = .675."""
    cohort = hospital(6000)
    positive = cohort.answers[0] > 0.5
    cohort.answers = (cohort.answers[0], np.ones(6000, dtype=bool))
    seen = ~hidden(cohort, mnar_by_label(cohort, "sepsis", "table", 0.20, 0.55))
    auroc = 0.5 + (seen[positive].mean() - seen[~positive].mean()) / 2
    assert auroc == pytest.approx(0.675, abs=0.02)


def test_drop_one_and_keep_one_are_strict():
    cohort = hospital(100, 0.6)
    dropped, kept = drop_one(cohort, "table"), keep_one(cohort, "table")
    assert not dropped[:, 1].any()
    assert not kept[:, [0, 2]].any()
    np.testing.assert_array_equal(dropped | kept, cohort.present)


def test_a_whole_site_never_has_the_modality_and_the_others_keep_theirs():
    cohort = hospital(400, 0.7)
    stays = whole_site(cohort, "image", "ward", "icu")
    there = np.array(cohort.columns["ward"]) == "icu"
    assert not stays[there, 0].any()
    np.testing.assert_array_equal(stays[~there], cohort.present[~there])
    np.testing.assert_array_equal(stays[:, 1:], cohort.present[:, 1:])


def test_who_has_no_site_keeps_what_there_is():
    cohort = hospital(3)
    cohort.columns["ward"] = ["icu", None, "other"]
    assert whole_site(cohort, "text", "ward", "icu")[:, 2].tolist() == [False, True, True]


def test_a_modality_that_comes_after_another_is_never_there_without_it():
    cohort = hospital(4)
    cohort.present = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 1]], dtype=bool)
    stays = sequential(cohort, "text", "image")
    assert stays.astype(int).tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    many = sequential(hospital(3000), "text", "image", share=0.4)
    assert abs(many[:, 0].mean() - 0.6) < 0.03
    np.testing.assert_array_equal(many[:, 0], many[:, 2])
    assert many[:, 1].all()


# --------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: mcar(c, 1.5), "share should be a number between 0 and 1"),
        (lambda c: mcar(c, float("nan")), "share should be"),
        (lambda c: mcar(c, 0.3, modalities=["imge"]), 'Did you mean "image"'),
        (lambda c: drop_one(c, "volume"), "Known: image, table, text"),
        (lambda c: keep_one(c, "tabel"), 'Did you mean "table"'),
        (lambda c: mar(c, "table", "crp", 0.1, 0.5), "would be hidden with it"),
        (lambda c: mar(c, "table", "gaps", 0.1, 0.5), "missing in 2 records"),
        (lambda c: mar(c, "table", "ward", 0.1, 0.5), "should be numeric"),
        (lambda c: mar(c, "table", "ward", 0.1, 0.5, cut="icv"), 'Did you mean "icu"'),
        (lambda c: mar(c, "table", "age2", 0.1, 5), "high should be"),
        (lambda c: mnar_by_value(c, "table", "crq"), 'Did you mean "crp"'),
        (lambda c: mnar_by_value(c, "table", "crp", (0.1, 0.2)), "three numbers"),
        (lambda c: mnar_by_value(c, "table", "crp", (0.1, 0.2, 2)), "shares should be"),
        (lambda c: mnar_by_label(c, "sepsys", "table"), 'Did you mean "sepsis"'),
        (lambda c: mnar_by_label(c, "days", "table"), "should be Binary, got Regression"),
        (lambda c: mnar_by_label(c, "sepsis", "table", -0.1), "positive should be"),
        (lambda c: whole_site(c, "image", "ward", "icv"), 'Did you mean "icu"'),
        (lambda c: sequential(c, "text", "text"), "should differ"),
        (lambda c: sequential(c, "text", "image", share=2), "share should be"),
    ],
)
def test_a_wrong_call_says_what_to_do(call, words):
    cohort = hospital(20)
    cohort.columns["gaps"] = [1.0] * 18 + [None, float("nan")]
    cohort.columns["age2"] = [1.0] * 20
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        call(cohort)
    assert words in str(error.value)


# --------------------------------------------------------------------------------------------------- protocol


def test_a_mechanism_does_what_its_rule_does():
    cohort = hospital(100, 0.8)
    mechanism = Mechanism(
        "mnar_by_label", {"task": "sepsis", "modality": "image", "flipped": True, "seed": 4}
    )
    expected = mnar_by_label(cohort, "sepsis", "image", flipped=True, seed=4)
    np.testing.assert_array_equal(mechanism.apply(cohort), expected)


@pytest.mark.parametrize(
    "mechanism",
    [
        *standard_mechanisms(hospital(50), seed=7),
        Mechanism("whole_site", {"modality": "image", "column": "ward", "site": "icu"}),
        Mechanism("sequential", {"modality": "text", "after": "image", "share": 0.3}),
        Mechanism("mnar_by_value", {"modality": "table", "column": "crp", "shares": (1, 0, 1)}),
    ],
)
def test_a_mechanism_survives_json(mechanism):
    again = Mechanism.from_dict(json.loads(json.dumps(mechanism.to_dict())))
    assert again == mechanism
    np.testing.assert_array_equal(again.apply(hospital(50)), mechanism.apply(hospital(50)))


def test_the_standard_protocol_has_every_row_once():
    rows = standard_mechanisms(SCHEMA)
    labels = [row.label for row in rows]
    assert labels == [
        "as recorded",
        *("mcar 10 %", "mcar 30 %", "mcar 50 %", "mcar 70 %"),
        *("without image", "without table", "without text"),
        *("only image", "only table", "only text"),
        "by value crp: table",
        *("by label sepsis: image", "by label sepsis: image, flipped"),
        *("by label sepsis: table", "by label sepsis: table, flipped"),
        *("by label sepsis: text", "by label sepsis: text, flipped"),
    ]
    assert {row.name for row in rows} <= set(RULES)
    assert [row.label for row in standard_mechanisms(Schema({"image": Image("path")}))] == ["as recorded"]


def at_random(cohort):
    return [row for row in standard_mechanisms(cohort, seed=3) if row.name == "mar"]


def test_the_standard_protocol_hides_at_random_by_the_first_column_that_is_never_missing():
    cohort = hospital(60)
    cohort.columns["crp"][7] = None  # the first column has a gap, so the second is taken
    rows = at_random(cohort)
    assert [row.label for row in rows] == ["mar age: image", "mar age: text"]
    assert {row.options["cut"] for row in rows} == {float(np.median(cohort.columns["age"]))}
    assert rows == at_random(cohort.where(np.arange(59, -1, -1)))
    cohort.present[3, 1] = False  # a table that somebody lacks cannot be the reason
    assert not at_random(cohort)
    assert not at_random(hospital(0))


def test_the_cut_comes_from_the_training_rows_if_there_are_any():
    cohort = hospital(60)
    cohort.columns["crp"] = np.arange(60).tolist()
    cohort.splits = np.array(["train"] * 11 + ["test"] * 49)
    assert {row.options["cut"] for row in at_random(cohort)} == {5.0}


def test_a_category_parts_the_records_by_its_level_nearest_to_half_of_them():
    parts = {"image": Image("path"), "table": Tabular((Category("ward", ("icu", "other", "home")),))}
    cohort = hospital(10)
    cohort.schema, cohort.present = Schema(parts), np.ones((10, 2), dtype=bool)
    cohort.columns["ward"] = ["home"] * 3 + ["icu"] * 5 + ["other"] * 2
    assert [row.options["cut"] for row in at_random(cohort)] == ["icu"]
    cohort.columns["ward"] = ["icu"] * 10  # parts nothing
    assert not at_random(cohort)


def test_the_strength_of_the_trap_can_be_set_and_is_said():
    rows = standard_mechanisms(SCHEMA, positive=0.0, negative=0.8)
    row = next(row for row in rows if row.name == "mnar_by_label" and row.options["flipped"])
    assert row.label == "by label sepsis: image, 0 % of yes, 80 % of no, flipped"
    cohort = hospital(3000)
    positive, known = cohort.answers[0] > 0.5, cohort.answers[1]
    gone = hidden(cohort, row.apply(cohort), "image")
    assert abs(gone[positive & known].mean() - 0.8) < 0.04
    assert not gone[~positive & known].any()


def test_labels_of_the_other_rules():
    assert (
        Mechanism("mar", {"modality": "table", "column": "age", "low": 0, "high": 1}).label
        == "mar age: table"
    )
    assert Mechanism("mnar_by_value", {"modality": "table", "column": "crp"}).label == "by value crp: table"
    site = Mechanism("whole_site", {"modality": "image", "column": "ward", "site": "icu"})
    assert site.label == "without image at ward icu"
    after = {"modality": "text", "after": "image"}
    assert Mechanism("sequential", after).label == "text only after image"
    assert (
        Mechanism("sequential", {**after, "share": 0.3}).label == "text only after image, 30 % without image"
    )
    assert Mechanism("mcar", {"share": 0.125, "modalities": ["image"]}).label == "mcar 12.5 % of image"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mechanism("mcat", {}), 'Did you mean "mcar"'),
        (lambda: Mechanism("mcar", {"shares": 0.1}), 'Did you mean "share"'),
        (lambda: Mechanism("mar", {"modality": "table"}), "needs column, low, high"),
        (lambda: Mechanism("mcar", {"share": object()}), "plain numbers, text and lists"),
        (lambda: Mechanism.from_dict({"name": "natural"}), "object with name and options"),
        (lambda: Mechanism.from_dict({"name": "natural", "options": [1]}), "should be an object"),
        (lambda: Mechanism.from_dict(None), "object with name and options"),
    ],
)
def test_a_wrong_protocol_says_what_to_do(make, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        make()
    assert words in str(error.value)
