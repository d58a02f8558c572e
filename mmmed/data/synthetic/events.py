"""Time to event: Weibull times that follow the same risk as the label, with independent censoring.

    T = scale * (E / exp(eta)) ** (1 / shape)

with E standard exponential and eta the bracket of the logit (Weibull proportional hazards, as in R. Bender,
T. Augustin and M. Blettner, Statistics in Medicine 24 (2005) 1713, doi:10.1002/sim.2059). The bracket is
taken at strength 1: at 2 it spans -12.8 to +10.4, and the times become absurd. Censoring is exponential and
knows nothing of the patient; with these constants 45 % of the times are censored.
"""

from __future__ import annotations

import numpy as np

SCALE = 20.0  # months
SHAPE = 1.3
CENSORING = 45.0  # mean time to the end of observation, in months


def event_times(eta: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Times to the event in months, never censored: eta [rows], uniform numbers [rows] -> [rows]."""
    exponential = -np.log1p(-uniform)
    return SCALE * (exponential / np.exp(eta)) ** (1 / SHAPE)


def observe(times: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a study sees: months [rows] until event or censoring, event [rows] 1 = seen, 0 = censored."""
    end = -CENSORING * np.log1p(-uniform)
    return np.minimum(times, end), (times <= end).astype(int)


def concordance(risk: np.ndarray, times: np.ndarray) -> float:
    """Share of pairs of uncensored times [rows] in which the higher risk comes first; equal risks: half."""
    earlier = times[:, None] < times[None, :]
    higher = np.sign(risk[:, None] - risk[None, :])
    return float((0.5 * (1 + higher[earlier])).mean())
