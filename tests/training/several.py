"""Train as one of several processes, and write what was learned. Started by test_several_processes.py."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny import ALL_TASKS, SCHEMA, make_cohort, make_model

from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.types import Schema


def train(folder: Path, accumulate: int = 1) -> dict:
    """Batches of five: uneven shares, and shares in which nobody has a modality."""
    schema = Schema(SCHEMA.modalities, ALL_TASKS)
    model, cohort = make_model(schema, dropout=0.0), make_cohort(48, schema, missing=0.6)
    optimisation = Optimisation(lr=5e-4, batch_size=5, accumulate=accumulate)
    run = finetune(
        model, cohort, epochs=1, patience=None, output=folder, optimisation=optimisation, progress=False
    )
    return {"weights": model.state_dict(), "line": dict(run.history[-1])}


if __name__ == "__main__":
    from accelerate import PartialState

    root = Path(sys.argv[1])
    for accumulate in (1, 2):
        result = train(root / f"run-{accumulate}", accumulate)
        state = PartialState()
        save_file(result["weights"], root / f"weights-{accumulate}-{state.process_index}.safetensors")
        if state.is_main_process:
            line = {**result["line"], "processes": state.num_processes}
            (root / f"line-{accumulate}.json").write_text(json.dumps(line))
    torch.distributed.destroy_process_group()
