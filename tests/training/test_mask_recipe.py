"""The settings of a run: frozen, JSON-ready, and refused where they mean nothing."""

import json
from dataclasses import FrozenInstanceError

import pytest

from mmmed.training.mask_recipe import MaskRecipe


def test_its_facts_make_the_same_recipe_again():
    recipe = MaskRecipe(flips=["sides", "heights"], zoom=0.1, precision="bf16")
    told = json.loads(json.dumps(recipe.facts()))
    assert MaskRecipe(**told) == recipe
    assert hash(recipe) == hash(MaskRecipe(**told))
    assert MaskRecipe(flips="sides") == MaskRecipe()
    with pytest.raises(FrozenInstanceError):
        recipe.lr = 1.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("flips", ("left",)),
        ("batch_size", 0),
        ("pairs", 1.5),
        ("slices", -1),
        ("first", 1.2),
        ("shift", -0.1),
        ("zoom", "large"),
        ("dropout", float("nan")),
        ("lr", -1e-3),
        ("lr", float("inf")),
        ("lr", True),
        ("contrast", None),
        ("precision", "fp8"),
    ],
)
def test_what_means_nothing_is_refused(setting, value):
    with pytest.raises(ValueError, match=setting.removesuffix("s")):
        MaskRecipe(**{setting: value})
