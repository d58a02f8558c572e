"""Find the report that belongs to a patient, and the patient to a report: contrast over frozen features.

2,000 training pairs of the synthetic cohort, 500 test pairs. Inputs: pooled tokens of encoders that learned
the findings (the first stage of a generator), of the same encoders without it, and plain pixels; texts:
TF-IDF of words. Reports that state the same findings count as one report: R@k asks for what can be known.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_retrieval.py [--epochs 15]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

import mmmed
from mmmed.evaluation.retrieval import recall_at_k
from mmmed.models.cross_modal import BagOfWords, pooled_inputs
from mmmed.models.inference import encode_cohort
from mmmed.models.nearest_reporter import Pixels
from mmmed.training.contrast import fit_cross_modal
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import default_stages

SIZES = (2000, 300, 500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = {"patients": sum(SIZES), "seed": 0, "split": tuple(n / sum(SIZES) for n in SIZES)}
    cohort = mmmed.load_cohort("synthetic", **made)
    reporter = mmmed.ReportGenerator.from_cohort(cohort, "report")
    untaught = features(reporter.network, cohort)
    start = time.process_time()
    stage = replace(default_stages(reporter)[0], epochs=options.epochs)
    finetune_reports(reporter, cohort, stages=[stage], progress=False)
    print(f"findings stage: {time.process_time() - start:.0f} CPU s")
    pixels = Pixels(cohort)
    sources = {
        "tokens of taught encoders": features(reporter.network, cohort),
        "tokens of untaught encoders": untaught,
        "pixels": [torch.from_numpy(pixels(list(part))["image"]).float() for part in parts(cohort)],
    }
    train, test = (part.column("report") for part in parts(cohort))
    stated = [label_sets(reporter.labeller, texts) for texts in (train, test)]
    words = BagOfWords(train)
    right = np.array([[one == other for other in stated[1]] for one in stated[1]])
    for name, (fitted, asked) in sources.items():
        start = time.process_time()
        generator = torch.Generator().manual_seed(0)
        model = fit_cross_modal(fitted, words(train), stated[0], generator=generator)
        with torch.no_grad():
            similarity = model(asked, torch.as_tensor(words(test), dtype=torch.float32))
        print(f"\n{name}, {time.process_time() - start:.1f} CPU s")
        print(recall_at_k(similarity.numpy(), right, groups=np.asarray(cohort["test"].groups)))


def parts(cohort):
    return cohort["train"], cohort["test"]


def features(network, cohort):
    """Mean token of every modality, side by side: [records numbers] of the training and the test part."""
    found = []
    for part in parts(cohort):
        encoded = encode_cohort(network, part)
        present = torch.from_numpy(encoded.present)
        dims = {name: encoder.dim for name, encoder in network.encoders.items()}
        found.append(pooled_inputs(encoded.tokens, encoded.rows, present, dims).float().clone())
    return found


def label_sets(labeller, texts):
    return [tuple(sorted(labeller.labels(text).items())) for text in texts]


if __name__ == "__main__":
    main()
