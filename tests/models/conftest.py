"""The tests of models share one small schema and its encoders, see small_model.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

FUSIONS = ("multimodn", "concat")


@pytest.fixture(params=FUSIONS)
def fusion(request):
    """Every promise about a whole model is tested with both fusions."""
    return request.param
