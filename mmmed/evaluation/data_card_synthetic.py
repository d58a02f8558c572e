"""The counted part that only the synthetic cohort has: formula, strength, ceilings, mechanisms, event times.

All of it is enumerated (`mmmed.data.synthetic.truth`), without sampling error, so a recount must agree.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from mmmed.data.synthetic import MECHANISMS, MODALITIES, MODALITY_FACTORS, Ceiling, Truth, facts
from mmmed.data.synthetic.events import CENSORING, SCALE, SHAPE
from mmmed.data.synthetic.truth import BIAS, LEVELS, SHARES, SYNERGY, WEIGHTS
from mmmed.evaluation.scores import Table

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.data.synthetic import Synthetic
    from mmmed.evaluation.data_card_counts import Part


def known_answer(cohort: Cohort) -> Part:
    """Everything that is known exactly about these data."""
    made = cohort.truth.made
    truth = made.truth
    return [
        formula(truth),
        _settings(made),
        _ceilings(truth),
        _sums(truth),
        _mechanisms(truth),
        *_events(made),
    ]


def formula(truth: Truth) -> str:
    """The label's formula in words and numbers."""
    terms = " + ".join(f"{weight:g} {name}" for name, weight in WEIGHTS.items())
    site = f" + {truth.shortcut:g} g" if truth.shortcut else ""
    seen = "; ".join(f"{name} sees {', '.join(factors)}" for name, factors in MODALITY_FACTORS.items())
    levels = ", ".join(f"{level} ({share:g})" for level, share in zip(LEVELS, SHARES, strict=True))
    return (
        f"P(diagnosis = 1) = sigmoid({truth.strength:g} ({BIAS:g} + {terms} + {SYNERGY:g} d e{site})). The "
        f"factors a, b, t, r, d, e are independent, each with the levels {levels}; {seen}."
    )


def _settings(made: Synthetic) -> Table:
    asked = made.settings
    told = {
        "patients": asked.patients,
        "seed": asked.seed,
        "strength k": f"{asked.strength:g}",
        "shortcut s of the site": f"{asked.shortcut:g}",
        "visits per patient": " to ".join(map(str, sorted(set(asked.visits)))),
        "picture": f"{asked.size} x {asked.size} px, {asked.views} view{'s' * (asked.views > 1)}",
        "lesions per picture": " to ".join(map(str, asked.lesions)),
        "prevalence, exact": f"{made.truth.prevalence:.4f}",
        "hidden by": "nothing" if asked.mechanism is None else str(asked.mechanism),
    }
    rows = tuple({"setting": name, "value": str(value)} for name, value in told.items())
    return Table(rows, "How these records were drawn")


def _ceilings(truth: Truth) -> Table:
    subsets = [some for count in range(4) for some in combinations(MODALITIES, count)]
    rows = tuple(_row(" + ".join(some) or "nothing", truth.ceiling(*some)) for some in subsets)
    note = "Exact values of the best possible predictor on new patients; more is luck or a leak."
    return Table(rows, "The best possible score of every subset", (note,))


def _row(name: str, ceiling: Ceiling) -> dict[str, str]:
    scores = {"AUROC": ceiling.auroc, "Brier": ceiling.brier}
    scores |= {"log loss (nats)": ceiling.log_loss, "accuracy": ceiling.accuracy}
    return {"known": name, **{key: f"{value:.4f}" for key, value in scores.items()}}


def _sums(truth: Truth) -> Table:
    rows = (
        _row("all: mean log-odds of the best single models", truth.late_average()),
        _row("all: best sum of one function per modality", truth.best_sum()),
        _row("all: ceiling", truth.ceiling(*MODALITIES)),
    )
    return Table(rows, "What adding up cannot do", ("The product d e crosses picture and table.",))


def _mechanisms(truth: Truth) -> Table:
    """Each mechanism of missingness, its rates, and what an audit should find, exactly."""
    drivers = {None: "nothing", "r": "factor r", "b": "factor b", "y": "the label", "g": "the site"}
    rows = []
    for name, how in MECHANISMS.items():
        told = facts(truth, how)
        rows.append(
            {
                "mechanism": name,
                "hides": " and ".join(how.hidden),
                "driven by": drivers[how.driver],
                "rates": ", ".join(f"{rate:g}" for rate in how.rates)
                + ", swapped in the test part" * how.flip,
                "share missing": f"{told.share:.4f}",
                "presence-only AUROC": f"{told.presence_auroc:.4f}",
                "prevalence of complete cases": f"{told.complete_prevalence:.4f}",
            }
        )
    note = (
        "Rates of being missing for the driver's levels -1, 0, +1 (label: 0, 1; nothing: one rate), before "
        'any swap. load_cohort("synthetic", missingness=NAME) applies one.'
    )
    return Table(tuple(rows), "Mechanisms of missingness", (note,))


def _events(made: Synthetic) -> Part:
    seen = sum(int(event) for event in made.table["event"])
    told = {
        "scale": f"{SCALE:g} months",
        "shape": f"{SHAPE:g}",
        "mean time to the end of observation": f"{CENSORING:g} months",
        "censored in these records": f"{len(made) - seen} of {len(made)}",
        "best concordance, nobody censored": f"{made.truth.concordance():.4f}",
    }
    rows = tuple({"event times": name, "value": value} for name, value in told.items())
    text = (
        "Weibull times, T = scale (E / exp(eta)) to the power of 1 / shape, with E standard exponential and "
        "eta the bracket of the formula at strength 1. Censoring is exponential and knows nothing of the "
        "patient."
    )
    return [Table(rows, "Time to event"), text]
