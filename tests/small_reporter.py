"""A report generator that is made in a moment: few patients, small pictures, one layer of words."""

import torch

import mmmed
from mmmed.training.report_finetune import finetune_reports
from mmmed.training.report_stages import Stage

TINY = ("small", {"width": 32, "layers": 1, "heads": 2, "length": 256})


def make_cohort(patients=40, size=32, seed=0, **options):
    return mmmed.load_cohort("synthetic", patients=patients, seed=seed, size=size, **options)


def make_reporter(cohort, **options):
    given = {"language_model": TINY, "dim": 16, "vocabulary": 400, "adapters": {"table": "mlp"}, "seed": 3}
    return mmmed.ReportGenerator.from_cohort(cohort, "report", **{**given, **options})


def quick_stages(findings=1, words=2):
    return (
        Stage("findings", findings, ("encoders", "finding head"), "findings", lr=3e-3),
        Stage("align", words, ("adapters", "language model"), lr=5e-3, batch_size=16),
    )


def taught(cohort, **options):
    """A generator that has seen every record a few times: what it writes has words, if not yet sense."""
    reporter = make_reporter(cohort, **options)
    finetune_reports(reporter, cohort, stages=quick_stages(1, 6), progress=False)
    reporter.threshold = None
    return reporter


def shaken(reporter, scale=0.15, seed=0):
    """The same generator with noise on every weight: no sense in what it writes, but every input matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in reporter.network.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return reporter


def by_pattern(cohort, patterns, every):
    """The cohort with `patterns` of what is there, one after the other, each for `every` records in turn."""
    names = tuple(cohort.schema.modalities)
    stays = [
        [name in patterns[(row // every) % len(patterns)] for name in names] for row in range(len(cohort))
    ]
    return cohort.keep(stays)


def weights(reporter):
    return {name: tensor.clone() for name, tensor in reporter.network.state_dict().items()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def without_dropout(reporter):
    """The same generator, whose training draws nothing."""
    for module in reporter.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return reporter
