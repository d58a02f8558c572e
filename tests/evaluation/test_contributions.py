"""What each modality adds: by hand for two, all together exactly, nothing for what is never used."""

from __future__ import annotations

import numpy as np
import pytest
from small_cohorts import cohort_of, frame_of

from mmmed.evaluation.benchmark import missingness_benchmark
from mmmed.evaluation.contributions import ALL
from mmmed.evaluation.metrics import auroc, log_loss


def two_modalities(rows=60):
    """Everybody has a table and a note."""
    frame = frame_of(rows, visits=1).assign(crp=lambda f: f["crp"].fillna(1.0))
    frame["note"] = frame["note"].fillna("follow up visit")
    return cohort_of(frame, image=None)


class Telling:
    """Says what it was given for each set of modalities: {(table, text): probabilities}."""

    def __init__(self, answers):
        self.answers = answers

    def asker(self, cohort):
        return lambda stays: {"ill": self.answers[tuple(bool(x) for x in stays.any(axis=0))]}


def test_two_modalities_by_hand():
    part = two_modalities()["test"]
    y, rng = part.targets("ill")[0], np.random.default_rng(0)
    said = {
        (False, False): np.full(len(y), 0.4),
        (True, False): np.clip(0.3 + 0.2 * y + rng.normal(scale=0.2, size=len(y)), 0.01, 0.99),
        (False, True): np.clip(0.2 + 0.3 * y + rng.normal(scale=0.3, size=len(y)), 0.01, 0.99),
        (True, True): np.clip(0.2 + 0.5 * y + rng.normal(scale=0.2, size=len(y)), 0.01, 0.99),
    }
    table = missingness_benchmark(Telling(said), part, mechanisms=[], draws=50).shapley
    value = {key: auroc(y, p) for key, p in said.items()}
    assert value[False, False] == 0.5
    # half of "first alone" and half of "added to the other"
    for name, alone in (("table", (True, False)), ("text", (False, True))):
        other = (not alone[0], not alone[1])
        share = (value[alone] - 0.5) / 2 + (value[True, True] - value[other]) / 2
        assert table.where(modality=name)[0]["auroc"].value == pytest.approx(share)
    saved = log_loss(y, said[False, False]) - log_loss(y, said[True, True])
    assert table.where(modality=ALL)[0]["log_loss"].value == pytest.approx(saved)
    assert table.where(modality=ALL)[0]["auroc"].value == pytest.approx(value[True, True] - 0.5)
    for row in table:
        assert row["auroc"].low <= row["auroc"].value <= row["auroc"].high


def test_shares_add_up_and_what_is_never_read_is_worth_nothing(cohort):
    part = cohort["test"]

    def blind(seen):  # reads image and text only
        return {"ill": seen.present[:, [0, 2]] @ np.array([0.2, 0.4]) + 0.1}

    table = missingness_benchmark(blind, part, mechanisms=[], draws=30).shapley
    assert [row["modality"] for row in table] == ["image", "table", "text", ALL]
    for key in ("auroc", "log_loss"):
        *shares, total = (row[key].value for row in table)
        assert sum(shares) == pytest.approx(total)
    nothing = table.where(modality="table")[0]
    assert (nothing["auroc"].value, nothing["auroc"].low, nothing["auroc"].high) == (0, 0, 0)


@pytest.mark.parametrize(("count", "asker", "there"), [(6, False, False), (6, True, True), (9, True, False)])
def test_up_to_eight_modalities_if_a_mask_costs_little(count, asker, there):
    frame = frame_of(40)
    for k in range(count):
        frame[f"lab{k}"] = np.random.default_rng(k).normal(size=40)
    parts = {f"part{k}": [f"lab{k}"] for k in range(count)}
    part = cohort_of(frame, image=None, text=None, tabular=parts)["train"]

    class Even:
        def __call__(self, seen):
            return np.full(len(seen), 0.5)

    model = Even()
    if asker:
        model.asker = lambda cohort: lambda stays: {"ill": stays.mean(axis=1)}
    bench = missingness_benchmark(model, part, mechanisms=[], draws=3)
    assert (len(bench.shapley) > 0) == there


def test_a_number_is_explained_by_the_error_saved():
    frame = frame_of(60, visits=1)
    frame["days"] = np.random.default_rng(0).normal(10, 3, 60)
    part = cohort_of(frame, target="days")["test"]
    truth = part.targets("days")[0]

    def model(seen):
        return {"days": np.where(seen.present[:, 1], truth, 10.0)}

    table = missingness_benchmark(model, part, draws=10).shapley
    known = part.present[:, 1]
    saved = (np.abs(truth - 10) * known).mean()
    assert table.where(modality="table")[0]["mae"].value == pytest.approx(saved)
    assert table.where(modality="image")[0]["mae"].value == pytest.approx(0)
