"""Why something is missing: seven mechanisms with known rates, and what each costs, exactly.

Every mechanism has a driver (what it looks at) and a rate of being missing for each level of that driver:

| name | driver | missing |
| --- | --- | --- |
| mcar | nothing | .40 |
| mar | r, the size on the picture: the laboratory is skipped when it looks severe | .25 .25 .70 |
| mnar | b itself: a low value is not measured | .65 .40 .15 |
| label | y, the trap: who is ill is measured more often | .55 if y = 0, .20 if y = 1 |
| label_flipped | as label, the two rates swapped in the test part | |
| site | the site: site C never has the modality | 0 0 1 |
| sequential | one coin for the picture; the text exists only if the picture was taken | .40 |

The complete data always stay; a mechanism says only what is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mmmed.checks import check_known, check_share, listing, plain
from mmmed.data.synthetic.table import COLUMNS as CELLS
from mmmed.data.synthetic.table import FACTOR_CELLS
from mmmed.data.synthetic.truth import (
    COLUMNS,
    MODALITIES,
    Ceiling,
    Truth,
    auroc,
    keys,
    score,
    visible_factors,
)

DRIVERS = (*COLUMNS, "y")
TESTS = ("same", "complete", "flipped")


@dataclass(frozen=True)
class Mechanism:
    """What is hidden, and how often for each level of its driver.

    hidden: modalities, or columns of the table. driver: a factor, "g" (site), "y" (label) or None. rates:
    one per level, in the order -1, 0, +1 (label: 0, 1; no driver: one rate). together: all that is hidden
    shares one coin, else each has its own. flip: the rates are read backwards in the test part.

        Mechanism(("image",), driver="y", rates=(0.0, 0.8))     # gone for four in five with y = 1
    """

    hidden: tuple[str, ...] = ("table",)
    driver: str | None = None
    rates: tuple[float, ...] = (0.4,)
    together: bool = True
    flip: bool = False

    def __post_init__(self) -> None:
        for field in ("hidden", "rates"):
            value = getattr(self, field)
            object.__setattr__(
                self, field, (value,) if isinstance(value, (str, float, int)) else tuple(value)
            )
        for name in self.hidden:
            check_known(name, (*MODALITIES, *CELLS), what="modality or table column to hide")
        if not self.hidden:
            raise ValueError("A mechanism should hide something. Name a modality or a column of the table.")
        if self.driver is not None:
            check_known(self.driver, DRIVERS, what="driver")
        wanted = 1 if self.driver is None else 2 if self.driver == "y" else 3
        if len(self.rates) != wanted:
            raise ValueError(
                f"A mechanism driven by {self.driver or 'nothing'} needs {wanted} rate(s), one per level, "
                f"got {plain(self.rates)}."
            )
        for rate in self.rates:
            check_share(rate, name="A rate of being missing")

    def probability(
        self, levels: np.ndarray, label: np.ndarray, flipped: bool | np.ndarray = False
    ) -> np.ndarray:
        """P(missing): levels [rows columns], label [rows] of 0 and 1, flipped bool or [rows] -> [rows]."""
        if self.driver is None:
            level = np.zeros(len(levels), dtype=int)
        elif self.driver == "y":
            level = np.asarray(label).astype(int)
        else:
            level = levels[:, COLUMNS.index(self.driver)].astype(int) + 1
        rates = np.asarray(self.rates)
        return np.where(np.asarray(flipped) & self.flip, rates[::-1][level], rates[level])

    def hide(
        self, levels: np.ndarray, label: np.ndarray, coins: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw what stays: stays [rows modalities] and measured [rows cells], both bool.

        coins [rows modalities+cells] uniform numbers; test [rows] bool, the rows where a flip counts.
        """
        missing = self.probability(levels, label, test)
        places = (*MODALITIES, *CELLS)
        keep = np.ones((len(levels), len(places)), dtype=bool)
        for name in self.hidden:
            place = places.index(name)
            keep[:, place] = coins[:, 0 if self.together else place] >= missing
        return keep[:, : len(MODALITIES)], keep[:, len(MODALITIES) :]

    def visible(self) -> str:
        """The factors that are still seen when all that the mechanism can hide is hidden."""
        cells = [factor for cell, factor in FACTOR_CELLS.items() if cell in self.hidden]
        left = "".join(visible_factors([name for name in MODALITIES if name not in self.hidden]))
        return "".join(factor for factor in left if factor not in cells)


MECHANISMS = {
    "mcar": Mechanism(),
    "mar": Mechanism(driver="r", rates=(0.25, 0.25, 0.70)),
    "mnar": Mechanism(driver="b", rates=(0.65, 0.40, 0.15)),
    "label": Mechanism(driver="y", rates=(0.55, 0.20)),
    "label_flipped": Mechanism(driver="y", rates=(0.55, 0.20), flip=True),
    "site": Mechanism(driver="g", rates=(0.0, 0.0, 1.0)),
    "sequential": Mechanism(hidden=("image", "text")),
}


def mechanism(which: str | Mechanism | None, share: float | None = None) -> Mechanism | None:
    """A mechanism by name, or as given. share: the rate of "mcar" and "sequential" in place of .40."""
    if which is None or isinstance(which, Mechanism):
        return which
    chosen = MECHANISMS[check_known(which, MECHANISMS, what="mechanism of missingness")]
    if share is None:
        return chosen
    if chosen.driver is not None:
        raise ValueError(
            f"A share can be set for mcar and sequential; {which} has rates per level. "
            "Pass Mechanism(driver=..., rates=...) to choose them."
        )
    return replace(chosen, rates=(check_share(share, name="share"),))


@dataclass(frozen=True)
class Facts:
    """What an audit should find, exactly.

    share missing; presence_auroc, the better of "missing" and "present" as a score; complete_prevalence, of
    y = 1 where nothing is hidden; observed_b, the mean of factor b where it is observed (over all rows: 0).
    """

    share: float
    presence_auroc: float
    complete_prevalence: float
    observed_b: float


def facts(truth: Truth, how: Mechanism) -> Facts:
    """The known answers about a mechanism with one coin, before any flip."""
    gone = truth.joint * _missing(truth, _one_coin(how))
    there = truth.joint - gone
    presence = auroc(np.array([0.0, 1.0]), *[np.array([gone[:, y].sum(), there[:, y].sum()]) for y in (0, 1)])
    sees_b = "b" in how.visible()
    observed = truth.joint if sees_b else there
    return Facts(
        share=float(gone.sum()),
        presence_auroc=max(presence, 1 - presence),
        complete_prevalence=float(there[:, 1].sum() / there.sum()),
        observed_b=float((observed.sum(1) * truth.states[:, COLUMNS.index("b")]).sum() / observed.sum()),
    )


def best_with_gaps(truth: Truth, how: Mechanism, *, use: bool = False, tested: str = "same") -> Ceiling:
    """The best possible score with all that is observed, under gaps in training and in the test.

    use: the predictor also reads the pattern (what is missing) as it was in training; otherwise it uses the
    complete data's posterior of whatever is observed. tested: "same" gaps, "complete" records, or the rates
    "flipped".
    """
    check_known(tested, TESTS, what="test pattern")
    trained = _missing(truth, _one_coin(how))
    asked = {
        "same": trained,
        "complete": np.zeros_like(trained),
        "flipped": _missing(truth, how, backwards=True),
    }
    scores, mass = [], []
    for seen, there, then in (
        (visible_factors(MODALITIES), 1 - trained, 1 - asked[tested]),
        (how.visible(), trained, asked[tested]),
    ):
        scores.append(_given(truth, seen, truth.joint * there if use else None))
        mass.append(truth.joint * then)
    return score(np.concatenate(scores), np.concatenate(mass))


def posterior_with_pattern(
    truth: Truth, how: Mechanism, levels: np.ndarray, missing: np.ndarray
) -> np.ndarray:
    """P(y = 1) given what is observed and the pattern: levels [rows columns], missing [rows] -> [rows]."""
    gone = _missing(truth, _one_coin(how))
    answer = np.empty(len(levels))
    for here, seen, weight in (
        (~missing, visible_factors(MODALITIES), 1 - gone),
        (missing, how.visible(), gone),
    ):
        answer[here] = truth.lookup(seen, truth.joint * weight)[keys(levels[here], seen)]
    return answer


def _given(truth: Truth, seen: str, weights: np.ndarray | None) -> np.ndarray:
    return truth.lookup(seen, weights)[keys(truth.states, seen)]


def _missing(truth: Truth, how: Mechanism, backwards: bool = False) -> np.ndarray:
    """P(missing) of each state with y = 0 and y = 1, [states 2]."""
    how = replace(how, rates=how.rates[::-1]) if backwards else how
    label = np.zeros(len(truth.states), dtype=int)
    return np.stack([how.probability(truth.states, label + y) for y in (0, 1)], axis=1)


def _one_coin(how: Mechanism) -> Mechanism:
    if len(how.hidden) > 1 and not how.together:
        raise ValueError(
            f"Exact numbers need one coin for all that is hidden; {listing(how.hidden)} have one each. "
            "Set together=True, or ask about one of them at a time."
        )
    return how
