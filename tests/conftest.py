"""What every test gets: no network, no GPU (unless MMMED_TEST_GPU=1), one thread, and two fixtures for what
may be missing on a machine."""

import os
from pathlib import Path

# before anything reads them
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if not os.environ.get("MMMED_TEST_GPU"):  # "the same bit by bit" is promised on a CPU alone
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def torchvision() -> str:
    """State of torchvision, made importable if it was not: for tests that import timm or transformers
    themselves."""
    from mmmed.backbones.torchvision_guard import torchvision_state

    return torchvision_state()


@pytest.fixture(scope="session")
def real_cohorts() -> Path:
    """The folder of real cohorts; tests that use it carry the marker `real_data`."""
    folder = os.environ.get("MMMED_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the folder of real cohorts: set the environment variable MMMED_DATA")
    return Path(folder)
