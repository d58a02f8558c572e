"""Which stages a generator goes through follows from what it is made of."""

import pytest
from small_reporter import make_cohort, make_reporter

from mmmed.language.global_local_adapter import GlobalLocalAdapter
from mmmed.language.language_model import open_language_model, small_llama
from mmmed.language.mixture_adapter import MixtureAdapter
from mmmed.training.report_stages import Stage, check_stages, default_stages, set_views


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(patients=16)


@pytest.fixture(scope="module")
def reporter(cohort):
    return make_reporter(cohort)


@pytest.fixture(scope="module")
def named(cohort, reporter, tmp_path_factory):
    """A generator around a language model that was opened from a folder."""
    folder = tmp_path_factory.mktemp("named")
    small_llama(len(reporter.tokenizer), width=32, layers=1, heads=2, length=256).save_pretrained(folder)
    reporter.tokenizer.save(folder)
    return make_reporter(cohort, language_model=str(folder))


def plan(reporter, epochs=None):
    return {stage.name: stage.trains for stage in default_stages(reporter, epochs)}


def test_from_scratch_findings_come_before_words(reporter):
    assert plan(reporter) == {
        "findings": ("encoders", "finding head"),
        "align": ("adapters", "language model"),
    }
    first, last = default_stages(reporter, 5)
    assert (first.learns, last.learns, last.epochs) == ("findings", "words", 5)


def test_a_language_model_that_can_write_is_aligned_and_then_given_lora(named, reporter):
    assert open_language_model(named.network.language_model.opened_as["name"])[0] is not None
    assert plan(named) == {
        "findings": ("encoders", "finding head"),
        "align": ("adapters",),
        "lora": ("adapters", "lora"),
    }
    assert default_stages(named, 7)[-1].epochs == 7


def test_a_blind_generator_learns_words_alone(cohort):
    blind = make_reporter(cohort)
    blind.blind = True
    assert plan(blind) == {"align": ("adapters", "language model")}


def test_encoders_that_no_finding_trains_learn_with_the_adapters(cohort):
    unknown = make_reporter(cohort, findings=False)
    every = ("encoder:image", "encoder:table", "encoder:text")
    assert plan(unknown) == {"align": ("adapters", *every, "language model")}
    radiology = {"name": "own", "findings": [{"name": "nodule", "patterns": ["nodule"], "needs": ["image"]}]}
    some = make_reporter(cohort, findings=radiology)
    assert plan(some)["align"] == ("adapters", "encoder:table", "encoder:text", "language model")


def test_a_fusion_learns_with_the_adapters(cohort):
    assert plan(make_reporter(cohort, fusion="multimodn"))["align"] == (
        "adapters",
        "fusion",
        "language model",
    )


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ("mixture", {"align mlp": ("mlp",), "align resampler": ("resampler",)}),
        (
            "slime",
            {
                "align global mlp": ("global", "mlp"),
                "align global resampler": ("global", "resampler"),
                "align local": ("local",),
            },
        ),
    ],
)
def test_adapters_with_several_views_train_them_one_after_the_other(cohort, adapter, expected):
    reporter = make_reporter(cohort, adapters={"image": adapter, "table": "mlp"})
    stages = default_stages(reporter)
    assert {stage.name: stage.views for stage in stages[1:-1]} == expected
    assert stages[-1].views == ()
    check_stages(stages, reporter)


def test_views_reach_the_adapters_and_go_back(cohort):
    reporter = make_reporter(cohort, adapters={"image": "slime", "table": "mlp"})
    modules = list(reporter.network.adapters.modules())
    (outer,) = (module for module in modules if isinstance(module, GlobalLocalAdapter))
    inner = [module for module in modules if isinstance(module, MixtureAdapter)]
    set_views(reporter.network, ("global", "resampler"))
    assert outer.used == "global"
    assert {module.used for module in inner} <= {"resampler"}
    set_views(reporter.network, ())
    assert {module.used for module in (outer, *inner)} == {"both"}


GOOD = {"name": "one", "epochs": 1, "trains": ("adapters",)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "Stage 'one': epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"trains": ()}, "trains nothing"),
        ({"trains": ("adaptors",)}, "part to train.*adaptors"),
        ({"learns": "pictures"}, "thing to learn"),
        ({"views": ("upside down",)}, "view"),
        ({"precision": "fp8"}, "precision"),
        ({"dropout": 1.5}, "dropout"),
        ({"asides": -0.1}, "asides"),
        ({"lr": -1}, "lr should be a number from 0 to 1"),
        ({"lr": "fast"}, "lr should be a number"),
        ({"lr": float("nan")}, "lr should be a number"),
        ({"clip": -1}, "clip should be a number from 0 up"),
        ({"weight_decay": True}, "weight_decay should be a number"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Stage(**{**GOOD, **wrong})


def test_one_part_may_be_written_as_a_word():
    assert Stage("one", 1, "adapters").trains == ("adapters",)


def test_stages_that_do_not_fit_the_generator_are_refused(cohort, reporter):
    for stages, message in (
        ((), "list of Stage"),
        (("align",), "list of Stage"),
        ((Stage("one", 1, ("encoder:labs",)),), "encoder"),
        ((Stage(**GOOD), Stage(**GOOD)), "a name of its own, got one, one"),
    ):
        with pytest.raises(ValueError, match=message):
            check_stages(stages, reporter)
    with pytest.raises(ValueError, match="without a table of findings"):
        check_stages([Stage("see", 1, ("encoders",), "findings")], make_reporter(cohort, findings=False))
    with pytest.raises(ValueError, match="epochs"):
        default_stages(reporter, 0)


def test_the_facts_of_a_stage_make_it_again():
    stage = Stage("one", 2, ("adapters",), lr=1e-3, views=("global",))
    assert Stage(**stage.facts()) == stage


def test_few_records_are_learned_in_smaller_batches(cohort):
    reporter = make_reporter(cohort)
    sizes = {
        records: [stage.batch_size for stage in default_stages(reporter, records=records)]
        for records in (10, 600, 2000, 10**6)
    }
    assert sizes == {10: [8, 8], 600: [20, 10], 2000: [64, 32], 10**6: [64, 32]}
