"""Reports of real cohorts, out of fold by patient: a generator from scratch, and what it must beat.

Breast ultrasound (200 patients, sentences built from the descriptors) and chest radiographs (201 pictures of
115 patients, sentences of the notes that speak of the picture). Is that enough to teach a generator to look?
The note is no input: the findings are sentences of it, so it would be copied. Table and picture are inputs.

Every record is written about once, by models that never saw its patient; the texts of all folds are scored
together, with intervals by patient. "lite0" has a frozen ImageNet encoder; "withheld": what is left once the
sentences below the generator's own threshold are gone; "template": sentences of training reports for what
the finding head of that generator finds. Needs the folder of real cohorts in MMMED_DATA. Four to seven
CPU minutes for each cohort.

    MMMED_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/bench_reports_real.py breast-us [--folds 5]
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mmmed
from mmmed.encoders.image import TimmImageEncoder
from mmmed.evaluation.grounding import Grounding, grounding
from mmmed.evaluation.report_metrics import difference_table, report_table
from mmmed.evaluation.scores import Table
from mmmed.models.create import seeded
from mmmed.models.nearest_reporter import NearestReporter, Pixels
from mmmed.models.plain_reporters import ConstantReporter, RandomReporter
from mmmed.models.template_reporter import TemplateReporter
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage, default_stages

TARGETS = {"breast-us": "report_templated", "covid-cxr": "findings_text"}
FINDINGS = ("finding_f1_micro", "finding_f1_macro", "finding_precision", "finding_recall", "errors")
WORDING = ("bleu4", "rouge_l", "distinct_share", "empty_share", "words")
SCRATCH, LITE, BLIND = "scratch", "lite0", "blind"
SIDE = 224  # pixels of the pictures for the ImageNet encoder
DIM = 64


class FrozenLite(TimmImageEncoder):
    """EfficientNet-Lite0 with ImageNet weights that never learn; every picture passes it only once."""

    def __init__(self, modality: Any):
        super().__init__(
            "tf_efficientnet_lite0",
            DIM,
            modality.channels,
            modality.size,
            "imagenet-wheel",
            grid=True,
            mean=modality.mean,
            scale=modality.scale,
        )
        self.seen: dict[bytes, Tensor] = {}

    def _encode(self, pixels: Tensor) -> Tensor:
        keys = [picture.numpy().tobytes() for picture in pixels]
        for key, picture in zip(keys, pixels, strict=True):
            if key not in self.seen:
                with torch.no_grad():
                    self.seen[key] = self.network.grid(picture[None])[0]
        return self.project(self.norm(torch.stack([self.seen[key] for key in keys])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", choices=tuple(TARGETS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, default=None, help="the first ONLY folds alone, to try it out")
    parser.add_argument("--times", type=int, default=1, help="epochs of each default stage, times this")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.ERROR)
    target = TARGETS[options.cohort]
    cohort = mmmed.load_cohort(options.cohort)
    if "text" in cohort.schema.modalities:
        cohort = cohort.with_schema(cohort.schema.without("text"))
    picture = replace(cohort.schema.modalities["image"], size=(SIDE, SIDE))
    large = cohort.with_schema(cohort.schema.with_modality("image", picture))
    bench = Bench(target, options)
    pairs = list(zip(cohort.folds(options.folds), large.folds(options.folds), strict=True))
    for fold, big in pairs[: options.only]:
        bench.fold(fold, big)
    bench.show(options.cohort, cohort)


class Bench:
    """What is collected over the folds: texts of each system, references, gaps and CPU seconds."""

    def __init__(self, target: str, options: argparse.Namespace):
        self.target, self.options = target, options
        self.said: dict[str, list[Any]] = defaultdict(list)
        self.gaps: dict[str, list[Grounding]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        self.references: list[str] = []
        self.groups: list[str] = []
        self.facts: dict[str, list[Any]] = defaultdict(list)
        self.stages: tuple[Stage, ...] = ()
        self.labeller: Any = None

    def fold(self, fold: mmmed.Cohort, big: mmmed.Cohort) -> None:
        """Train everything on one fold and let it write the test part."""
        texts = fold["test"].column(self.target)
        told = np.array([k for k, text in enumerate(texts) if isinstance(text, str) and text.strip()])
        test, large = fold["test"].where(told), big["test"].where(told)
        assert test.ids.tolist() == large.ids.tolist()
        self.references += [texts[k] for k in told]
        self.groups += test.groups.tolist()
        seed = self.options.seed
        with seeded(seed):
            lite = FrozenLite(big.schema.modalities["image"])
        scratch = self._generator(SCRATCH, fold, test)
        self._generator(LITE, big, large, encoders={"image": lite})
        self._generator(BLIND, fold, test, blind=True)
        train = fold["train"]
        plain = {
            "nearest pixels": NearestReporter.fit(train, self.target, Pixels(train)),
            "constant": ConstantReporter.fit(train, self.target),
            "random": RandomReporter.fit(
                train, self.target, generator=torch.Generator().manual_seed(len(self.groups))
            ),
        }
        self.labeller = scratch.labeller
        for name, reporter in plain.items():
            self._write(name, reporter, test)

    def _generator(
        self, name: str, fold: mmmed.Cohort, test: mmmed.Cohort, blind: bool = False, **parts: Any
    ) -> mmmed.ReportGenerator:
        start, seed = time.process_time(), self.options.seed
        reporter = mmmed.ReportGenerator.from_cohort(fold, self.target, dim=DIM, seed=seed, **parts)
        reporter.blind = blind
        stages = tuple(
            replace(stage, epochs=stage.epochs * self.options.times, batch_size=self.options.batch)
            for stage in default_stages(reporter)
        )
        finetune_reports(reporter, fold, stages=stages, seed=seed, progress=False)
        self.seconds[name] += time.process_time() - start
        self.stages = max(self.stages, stages, key=len)
        self.facts[name].append(reporter.threshold)
        self._write(f"{name}, withheld", reporter, test)
        threshold, reporter.threshold = reporter.threshold, None
        self._write(name, reporter, test)
        reporter.threshold = threshold
        if not blind:
            template = TemplateReporter.fit(
                fold["train"],
                self.target,
                reporter.labeller,
                lambda records: reporter.finding_probabilities(records)[0],
                fold["val"],
            )
            self._write(f"template ({name})", template, test)
        self.gaps[name].append(grounding(reporter, test))
        return reporter

    def _write(self, name: str, reporter: Any, test: mmmed.Cohort) -> None:
        start = time.process_time()
        generator = isinstance(reporter, mmmed.ReportGenerator)
        options = {"evidence": False} if generator else {}
        self.said[name] += reporter.generate(list(test), **options)
        self.seconds["writing"] += time.process_time() - start

    def show(self, name: str, cohort: mmmed.Cohort) -> None:
        """Print the tables."""
        groups = np.array(self.groups)
        print(
            f"{name}: {len(groups)} reports of {len(set(groups))} patients, "
            f"{self.options.only or self.options.folds} of {self.options.folds} patient folds; inputs: "
            f"{', '.join(cohort.schema.modalities)}; column {self.target}"
        )
        for stage in self.stages:
            print(
                f"stage {stage.name}: {stage.epochs} epochs, batches of {stage.batch_size}, lr {stage.lr:g}"
            )
        order = [SCRATCH, LITE, BLIND]
        systems = {key: self.said[key] for key in sorted(self.said, key=lambda key: key not in order)}
        for scores in (FINDINGS[:3], FINDINGS[3:], WORDING):
            table = report_table(systems, self.references, self.labeller, groups, scores=scores)
            print(f"\n{table}")
            if "finding_f1_macro" in scores:
                print(f"macro F1: {table[0]['finding_f1_macro'].note}")
        written = {key: said for key, said in systems.items() if not key.endswith("withheld")}
        for baseline in (BLIND, "constant"):
            scores = (FINDINGS[0], FINDINGS[1], FINDINGS[4])
            print()
            print(difference_table(written, self.references, self.labeller, baseline, groups, scores=scores))
        rows = []
        for system, parts in self.gaps.items():
            pooled = joined(parts)
            gaps = {f"gap, {what}": pooled.gap(what) for what in pooled.others}
            rows.append({"generator": system, "loss": round(pooled.loss, 3), **gaps})
        print(f"\n{Table(tuple(rows), 'Grounding gap, nats per token, all folds together')}")
        for system, thresholds in self.facts.items():
            shown = ", ".join("none" if value is None else f"{value:.2f}" for value in thresholds)
            print(f"threshold below which {system!r} withholds a sentence, by fold: {shown}")
        for system in order:
            print(f"{system!r} writes, for example: {str(self.said[system][0].text)[:200]!r}")
        print(f"reference of that: {self.references[0][:200]!r}")
        used = ", ".join(f"{key} {value:.0f}" for key, value in self.seconds.items())
        print(f"CPU seconds: {used}; the whole process {time.process_time():.0f}")


def joined(parts: list[Grounding]) -> Grounding:
    """The folds as one set."""
    others = {what: np.concatenate([part.others[what] for part in parts]) for what in parts[0].others}
    own, tokens, groups = (
        np.concatenate([getattr(part, field) for part in parts]) for field in ("own", "tokens", "groups")
    )
    return Grounding(own, others, tokens, groups)


if __name__ == "__main__":
    main()
