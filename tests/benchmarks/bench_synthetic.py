"""How far one model gets on the synthetic cohort, per subset of modalities, where the best possible is known.

Strength 2, 2,000 training patients, complete records; share of the way = (AUROC - 0.5) / (ceiling - 0.5), the
ceiling being the exact posterior on the same test rows; distance = mean absolute distance to that posterior.
With --concepts the six hidden factors are further tasks of the same model, as descriptors could be.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_synthetic.py [--concepts] [--fusion concat] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations

import numpy as np

import mmmed
from mmmed.evaluation.metrics import auroc
from mmmed.models.inference import encode_cohort, predict_encoded
from mmmed.training.augment import Augmentation

TRAIN, VALIDATION, TEST = 2000, 400, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fusion", default="multimodn")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concepts", action="store_true", help="also learn the six factors (concept labels)")
    parser.add_argument(
        "--no-flip", action="store_true", help="do not mirror pictures (the label knows no side)"
    )
    options = parser.parse_args()
    total = TRAIN + VALIDATION + TEST
    shares = (TRAIN / total, VALIDATION / total, TEST / total)
    made = {"patients": total, "seed": options.seed, "split": shares, "concepts": options.concepts}
    cohort = mmmed.load_cohort("synthetic", **made)
    model = mmmed.create_model(cohort.schema, fusion=options.fusion, seed=options.seed)
    start = time.process_time()
    flips = Augmentation(flip=not options.no_flip)
    settings = {"epochs": options.epochs, "seed": options.seed, "augmentation": flips, "progress": False}
    run = mmmed.finetune(model, cohort, **settings)
    spent = time.process_time() - start
    test = cohort["test"]
    labels = test.targets("diagnosis")[0]
    encoded = encode_cohort(model, test)
    print(
        f"{options.fusion}, {len(cohort['train'])} training rows, best epoch {run.best_epoch}, {spent:.0f} "
        "CPU s"
    )
    print(f"{'subset':<22}{'AUROC':>8}{'ceiling':>9}{'share':>7}{'distance':>10}")
    names = model.modalities
    for size in range(1, len(names) + 1):
        for subset in combinations(names, size):
            mask = np.array([[name in subset for name in names]] * len(test))
            mine = predict_encoded(model, encoded, mask)["diagnosis"][:, 0]
            exact = test.truth.posterior(mask)["diagnosis"]
            score, best = auroc(labels, mine), auroc(labels, exact)
            share, distance = (score - 0.5) / (best - 0.5), np.abs(mine - exact).mean()
            print(f"{' + '.join(subset):<22}{score:>8.3f}{best:>9.3f}{share:>7.2f}{distance:>10.3f}")


if __name__ == "__main__":
    main()
