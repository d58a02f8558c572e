"""Reports of the synthetic cohort: a generator from scratch, the same one blind, and what it must beat.

2,000 training patients, 300 for validation and 500 for the test, image + table + text. Printed: CPU seconds
of each training; scores with intervals by patient; differences to the blind model and to classifier +
template; the grounding gap of every modality; what is written when modalities are missing; closed questions.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_reports.py [--epochs 12] [--output runs/reports]
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter

import numpy as np
import torch

import mmmed
from mmmed.data.synthetic import generate
from mmmed.evaluation.grounding import grounding
from mmmed.evaluation.report_findings import findings_table
from mmmed.evaluation.reports import compare_reporters, evaluate_reports, stress_reports
from mmmed.evaluation.scores import Table
from mmmed.language.questions import answer_of, closed_questions
from mmmed.models.nearest_reporter import NearestReporter, Pixels
from mmmed.models.plain_reporters import ConstantReporter, RandomReporter
from mmmed.models.template_reporter import TemplateReporter
from mmmed.training.report_finetune import finetune_reports

SIZES = (2000, 300, 500)
SCORES = ("finding_f1_micro", "finding_f1_macro", "errors", "bleu4", "rouge_l", "distinct_share", "words")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    made = {"patients": sum(SIZES), "seed": options.seed, "split": tuple(n / sum(SIZES) for n in SIZES)}
    cohort = mmmed.load_cohort("synthetic", **made)
    train, test = cohort["train"], cohort["test"]
    print(f"{len(train)} training, {len(cohort['val'])} validation, {len(test)} test patients")

    ours, blind = (mmmed.ReportGenerator.from_cohort(cohort, "report", seed=options.seed) for _ in range(2))
    blind.blind = True
    for name, reporter in {"ours": ours, "blind": blind}.items():
        start = time.process_time()
        output = options.output if name == "ours" else None
        settings = {"epochs": options.epochs, "output": output, "seed": options.seed, "resume": False}
        run = finetune_reports(reporter, cohort, progress=False, **settings)
        print(f"\n{name}: {time.process_time() - start:.0f} CPU s\n{run}")

    reworded = generate(**made).reworded(seed=1)
    place = {name: row for row, name in enumerate(cohort.ids.tolist())}
    systems = {
        "ours": ours,
        "truth in other words": [reworded[place[name]] for name in test.ids.tolist()],
        "classifier + template": TemplateReporter.fit(
            train,
            "report",
            ours.labeller,
            lambda records: ours.finding_probabilities(records)[0],
            cohort["val"],
        ),
        "blind language model": blind,
        "pixel nearest neighbour": NearestReporter.fit(train, "report", Pixels(train)),
        "most common report": ConstantReporter.fit(train, "report"),
        "random report": RandomReporter.fit(train, "report", generator=torch.Generator().manual_seed(0)),
    }
    start = time.process_time()
    print(f"\n{evaluate_reports(systems, test, scores=SCORES)}")
    for baseline in ("blind language model", "classifier + template"):
        print(f"\n{compare_reporters(systems, test, baseline, scores=SCORES[:5])}")
    print(f"\n{grounding(ours, test).table()}")
    print(f"\n{stress_reports(ours, test)}")
    texts = test.column("report")
    print(f"\n{findings_table(texts, [r.text for r in ours.generate(test, evidence=False)], ours.labeller)}")
    probabilities, judged = ours.finding_probabilities(test)
    targets, known = ours.labeller.targets(texts)
    right = (probabilities > 0.5) & (targets > 0.5) & known & judged
    total = ((probabilities > 0.5) & known & judged).sum() + ((targets > 0.5) & known & judged).sum()
    print(f"\nfinding head alone: F1 micro {2 * right.sum() / total:.3f} (at 0.5)")
    start = time.process_time()
    reports = ours.generate(test, evidence=True)
    seconds = time.process_time() - start
    rests = np.mean([sentence.from_habit for report in reports for sentence in report.sentences])
    print(
        f"written with evidence: {len(test) / seconds:.0f} reports per CPU s; {rests:.1%} of the sentences "
        f"rest on nothing of the patient. One report:\n{reports[0]}"
    )
    print(f"\n{questions_table(ours, test)}")


def questions_table(reporter, cohort):
    """Closed questions about every test patient: share of right answers, beside the most common answer."""
    records, texts, rows = list(cohort), cohort.column(reporter.target), []
    for question in closed_questions(reporter.labeller):
        true = [answer_of(question, reporter.labeller.labels(text)) for text in texts]
        asked = [k for k, answer in enumerate(true) if answer is not None]
        if len(asked) < 20:
            continue
        said = [reporter.answer(records[k], question.text, evidence=False).text for k in asked]
        right = float(np.mean([text == true[k] for text, k in zip(said, asked, strict=True)]))
        common = max(Counter(true[k] for k in asked).values()) / len(asked)
        rows.append(
            {"question": question.text, "n": len(asked), "right": right, "most common answer": common}
        )
    return Table(tuple(rows), "Closed questions")


if __name__ == "__main__":
    main()
