"""Teach a segmenter as one of several processes. Started by test_mask_finetune.py."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from squares import make_segmenter, make_task, make_volumes

from mmmed.training.mask_finetune import finetune_masks
from mmmed.training.mask_recipe import MaskRecipe


def teach(folder=None, volumes=False):
    """Batches of five among 11 records: uneven shares, the last one a single record, so one is empty."""
    if volumes:
        cohort, phrases = make_volumes(count=5, names=("flair", "pre"))
    else:
        cohort, phrases = make_task(count=14, val=0.2)
    # Of phrases of one length a bias of the words has no gradient but rounding, which Adam makes large.
    phrases = [replace(p, text=p.text.replace("right", "far right side")) for p in phrases]
    segmenter = make_segmenter(cohort, phrases, by_slice=volumes)
    recipe = MaskRecipe(lr=3e-5, batch_size=5, first=0.3, shift=0.05, zoom=0.1, slices=3, weight_decay=1.0)
    run = finetune_masks(segmenter, cohort, phrases, recipe=recipe, epochs=3, output=folder, progress=False)
    return segmenter, run


if __name__ == "__main__":
    from accelerate import PartialState

    root = Path(sys.argv[1])
    for volumes in (False, True):
        segmenter, _ = teach(root / f"run-{volumes}", volumes)
        state = PartialState()
        assert state.num_processes == 2
        own = {name: tensor.clone().contiguous() for name, tensor in segmenter.network.state_dict().items()}
        save_file(own, root / f"weights-{volumes}-{state.process_index}.safetensors")
    torch.distributed.destroy_process_group()
