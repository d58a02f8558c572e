"""Teach a report generator as one of several processes. Started by test_report_finetune.py."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from small_reporter import make_cohort, make_reporter, without_dropout

from mmmed.language.lora import add_lora
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage


def teach(folder=None):
    """Batches of five among 14 records: uneven shares, one of them empty."""
    cohort = make_cohort(patients=20)
    reporter = make_reporter(cohort)
    add_lora(reporter.network.language_model, dropout=0.0)
    without_dropout(reporter)
    stages = (
        Stage("findings", 1, ("encoders", "finding head"), "findings", batch_size=5, lr=1e-4),
        Stage("align", 1, ("adapters", "language model"), batch_size=5, lr=1e-4, dropout=0.5),
        Stage("lora", 1, ("adapters", "lora"), batch_size=13, lr=1e-4),
    )
    run = finetune_reports(reporter, cohort, stages=stages, output=folder, progress=False)
    return reporter, run


if __name__ == "__main__":
    from accelerate import PartialState

    root = Path(sys.argv[1])
    reporter, run = teach(root / "run")
    state = PartialState()
    assert state.num_processes == 2
    own = {name: tensor.contiguous() for name, tensor in reporter.network.own_state().items()}
    own = {name: tensor.clone() for name, tensor in own.items()}
    save_file(own, root / f"weights-{state.process_index}.safetensors")
    torch.distributed.destroy_process_group()
