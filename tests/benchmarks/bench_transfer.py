"""What a teacher and what unlabelled records bring, on the synthetic cohort; paired over three seeds.

distil: an image encoder trained alone on 1,500 records teaches a smaller one inside a model that was trained
on 200. The same small encoder, the same frozen model, the same epochs, with the teacher (alpha 0.5) and
without (alpha 0); AUROC on 1,000 test records with the image alone and with all modalities.

views: the consistent and specific codes of `pretrain_views` on 1,500 records without labels (40 % of the
modalities missing at random) against what they were made from (table cells; mean tokens of image and text
encoders trained on 100 labelled records and frozen): a logistic regression on the same 100 labels, gaps
filled with the mean.

Differences come with a 95 % interval of Student's t over the seeds (2 degrees of freedom: it is wide).

Measured once, settings not tuned: the teacher brings +0.018 [-0.019, +0.056] with the image alone and +0.003
[-0.029, +0.035] with all; the codes +0.001 [-0.034, +0.035], the consistent one alone -0.041 [-0.116,
+0.035]. So a tendency for the image alone, no gain shown here for the rest.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_transfer.py [distil] [views]
"""

from __future__ import annotations

import argparse
import time
import warnings
from copy import deepcopy

import numpy as np

import mmmed
from mmmed.evaluation.metrics import auroc
from mmmed.models.inference import encode_cohort, predict_encoded, predict_proba
from mmmed.pretraining.distil import distil_encoder
from mmmed.pretraining.pretrain import pretrain_views, read_views
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy

TRAIN, VALIDATION, TEST, SEEDS = 1500, 200, 1000, (0, 1, 2)
QUICK = Optimisation(lr=2e-3, batch_size=16)
SMALL = ("cnn", {"widths": (8, 12, 24)})
T_TWO = 4.303  # 97.5 % point of Student's t with two degrees of freedom


def cohort_of(seed: int, **options):
    total = TRAIN + VALIDATION + TEST
    shares = (TRAIN / total, VALIDATION / total, TEST / total)
    return mmmed.load_cohort("synthetic", patients=total, seed=seed, split=shares, **options)


def few(cohort, train: int, val: int, seed: int):
    """Some of the training and validation records, and all test records."""
    draw = np.random.default_rng(seed)
    chosen = [draw.choice(np.flatnonzero(cohort.splits == part), count, replace=False) for part, count in
              (("train", train), ("val", val))]  # fmt: skip
    return cohort.where(np.concatenate([*chosen, np.flatnonzero(cohort.splits == "test")]))


def scores(model, test) -> dict[str, float]:
    """AUROC with the image alone and with everything."""
    labels, encoded = test.targets("diagnosis")[0], encode_cohort(model, test)
    result = {}
    for what, names in (("image alone", ("image",)), ("all", model.modalities)):
        mask = np.array([[name in names for name in model.modalities]] * len(test))
        result[what] = auroc(labels, predict_encoded(model, encoded, mask)["diagnosis"][:, 0])
    return result


def report(title: str, after: list[float], before: list[float]) -> None:
    gain = np.subtract(after, before)
    half = T_TWO * gain.std(ddof=1) / len(gain) ** 0.5
    print(
        f"{title:<28}{np.mean(before):>8.3f} ->{np.mean(after):>7.3f}   difference {gain.mean():+.3f} "
        f"[{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]  {', '.join(f'{g:+.3f}' for g in gain)}"
    )


def distil() -> None:
    cohort = cohort_of(0)
    start = time.process_time()
    picture = mmmed.create_model(cohort.only("image").schema)
    mmmed.finetune(
        picture,
        cohort.only("image"),
        epochs=14,
        policy=Policy(dropout=0.0),
        optimisation=QUICK,
        progress=False,
    )
    teacher, spent = picture.encoders["image"], time.process_time() - start
    labels = cohort["test"].targets("diagnosis")[0]
    alone = auroc(labels, predict_proba(picture, cohort["test"].only("image"))["diagnosis"][:, 0])
    print(f"teacher: AUROC {alone:.3f} with the image alone, {spent:.0f} CPU s")
    found: dict[str, list[dict[str, float]]] = {"before": [], "labels": [], "teacher": []}
    for seed in SEEDS:
        little = few(cohort, 200, 100, seed)
        trained = mmmed.create_model(cohort.schema, encoders={"image": SMALL}, seed=seed)
        mmmed.finetune(trained, little, epochs=15, optimisation=QUICK, seed=seed, progress=False)
        found["before"].append(scores(trained, little["test"]))
        for arm, alpha in (("labels", 0.0), ("teacher", 0.5)):
            model = deepcopy(trained)
            settings = {"alpha": alpha, "epochs": 25, "optimisation": QUICK, "seed": seed}
            distil_encoder(model, "image", teacher, little, SMALL, **settings)
            found[arm].append(scores(model, little["test"]))
    for what in ("image alone", "all"):
        print(f"jointly trained, {what}: {np.mean([s[what] for s in found['before']]):.3f}")
        report(
            f"labels -> teacher, {what}", *[[s[what] for s in found[arm]] for arm in ("teacher", "labels")]
        )


def probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """AUROC of a logistic regression whose penalty is chosen on the training rows."""
    from sklearn.linear_model import LogisticRegressionCV

    mean, scale = train.mean(0), train.std(0)
    scale[scale == 0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegressionCV(Cs=np.logspace(-4, 1, 11), cv=5, scoring="neg_log_loss", max_iter=500)
        model.fit((train - mean) / scale, labels)
        return auroc(truth, model.predict_proba((test - mean) / scale)[:, 1])


def raw(cohort, learned) -> np.ndarray:
    """Standardised features of all views side by side, absent ones at their mean."""
    views, columns = read_views(cohort, learned.features, learned.model.names), []
    for name in views.names:
        block = np.zeros((len(views), learned.features[name].width))
        block[views.rows[name].numpy()] = views.values[name].numpy()
        columns.append(block)
    return np.hstack(columns)


def codes(cohort, learned, which: str) -> np.ndarray:
    found = learned.codes(cohort)
    return np.hstack(
        [code.numpy() for name, code in found.items() if which == "both" or name == "consistent"]
    )


def views() -> None:
    found: dict[str, list[float]] = {"raw": [], "consistent": [], "both": []}
    for seed in SEEDS:
        cohort = cohort_of(seed, missingness="mcar")
        little = few(cohort, 100, 50, seed)
        model = mmmed.create_model(cohort.schema, encoders={"image": SMALL}, dim=32, state_dim=32, seed=seed)
        mmmed.finetune(model, little, epochs=10, optimisation=QUICK, seed=seed, progress=False)
        frozen = {name: model.encoders[name] for name in ("image", "text")}
        learned = pretrain_views(cohort, frozen=frozen, epochs=20, seed=seed)
        train, test = little["train"], little["test"]
        labels, truth = train.targets("diagnosis")[0], test.targets("diagnosis")[0]
        for which, areas in found.items():
            x = [
                raw(part, learned) if which == "raw" else codes(part, learned, which)
                for part in (train, test)
            ]
            areas.append(probe(x[0], labels, x[1], truth))
    report("raw -> consistent code", found["consistent"], found["raw"])
    report("raw -> both codes", found["both"], found["raw"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["distil", "views"], help="distil, views")
    for part in parser.parse_args().parts:
        start = time.process_time()
        print(f"== {part}")
        {"distil": distil, "views": views}[part]()
        print(f"{time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
