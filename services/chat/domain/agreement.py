"""How far raters agree: Krippendorff's alpha with a bootstrap interval.

Alpha after K. Krippendorff, *Computing Krippendorff's Alpha-Reliability* (University of Pennsylvania, 2011), and
*Content Analysis: An Introduction to Its Methodology*, 4th edition (2019), chapter 12: values that raters gave to one
unit are paired within it, each pair weighing 1 / (m - 1) in a unit with m values; the sums are the coincidence matrix o
with margins n_c and total n. With squared differences d between two values,

    alpha = 1 - (n - 1) * sum(o_ck * d_ck) / sum(n_c * n_k * d_ck).

Nominal values differ by 1 or 0. Ordinal ones differ by how many values lie between them: the sum of the margins from one
to the other, each end counted half, squared. Units that one rater alone judged pair with nothing and are left out.

The interval is that of the percentile bootstrap over clusters of units (the answers of one comparison are one cluster:
ranks within it depend on each other).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "AgreementStatus", "Level", "Rating", "measure"]

_RESAMPLES: Final = 1_000
_INTERVAL: Final = (2.5, 97.5)
# The same judgements give the same interval, whoever asks.
_SEED: Final = 2011
# With fewer clusters, or with most draws showing no variation at all, percentiles say nothing.
_FEWEST_CLUSTERS: Final = 2
_FEWEST_DEFINED: Final = 0.5

Matrix = NDArray[np.float64]


class Level(StrEnum):
    """What differences between values mean."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"


class AgreementStatus(StrEnum):
    """Whether there is a number."""

    MEASURED = "measured"
    NOT_ENOUGH_OVERLAP = "not_enough_overlap"
    NO_VARIATION = "no_variation"


@dataclass(frozen=True, slots=True)
class Rating:
    """A value that a rater gave to a unit; of two for the same unit the later one counts."""

    unit: str
    rater: str
    value: float
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Alpha, where it is defined, and what it rests on: raters, units and values that pair, and all values."""

    status: AgreementStatus
    alpha: float | None
    interval: tuple[float, float] | None
    raters: int
    units: int
    pairable_values: int
    values: int


def measure(ratings: Iterable[Rating], level: Level, *, resamples: int = _RESAMPLES) -> Agreement:
    """Return Krippendorff's alpha of ratings with its 95 % bootstrap interval.

    Args:
        ratings: In the order in which they were given.
        level: What differences mean.
        resamples: Draws of the bootstrap.
    """
    units: dict[str, dict[str, float]] = {}
    clusters: dict[str, str] = {}
    for one in ratings:
        units.setdefault(one.unit, {})[one.rater] = one.value
        clusters[one.unit] = one.cluster or one.unit
    paired = {unit: given for unit, given in units.items() if len(given) > 1}
    values = sum(len(given) for given in units.values())
    pairable = sum(len(given) for given in paired.values())
    raters = len({rater for given in paired.values() for rater in given})
    if not paired:
        return Agreement(AgreementStatus.NOT_ENOUGH_OVERLAP, None, None, raters, 0, 0, values)
    by_cluster = _coincidences(paired, clusters)
    alpha = float(_alphas(by_cluster.sum(axis=0)[None], level)[0])
    if np.isnan(alpha):
        return Agreement(AgreementStatus.NO_VARIATION, None, None, raters, len(paired), pairable, values)
    interval = _interval(by_cluster, level, resamples)
    return Agreement(AgreementStatus.MEASURED, alpha, interval, raters, len(paired), pairable, values)


def _coincidences(units: Mapping[str, Mapping[str, float]], clusters: Mapping[str, str]) -> Matrix:
    """Return a coincidence matrix for each cluster, shaped (clusters, values, values), values in rising order."""
    places = {value: at for at, value in enumerate(sorted({v for given in units.values() for v in given.values()}))}
    names = {name: at for at, name in enumerate(dict.fromkeys(clusters[unit] for unit in units))}
    found = np.zeros((len(names), len(places), len(places)))
    for unit, given in units.items():
        counts = Counter(places[value] for value in given.values())
        matrix = found[names[clusters[unit]]]
        for one, ones in counts.items():
            for other, others in counts.items():
                matrix[one, other] += ones * (others - (one == other)) / (len(given) - 1)
    return found


def _alphas(matrices: Matrix, level: Level) -> NDArray[np.float64]:
    """Return alpha of each coincidence matrix, shaped (…, values, values); NaN where nothing varies."""
    margins = matrices.sum(axis=2)
    totals = margins.sum(axis=1)
    if level is Level.NOMINAL:
        differences = np.broadcast_to(1.0 - np.eye(margins.shape[1]), matrices.shape)
    else:
        # From the middle of one value's share to the middle of the other's.
        middles = np.cumsum(margins, axis=1) - margins / 2
        differences = (middles[:, :, None] - middles[:, None, :]) ** 2
    observed = (matrices * differences).sum(axis=(1, 2))
    expected = (margins[:, :, None] * margins[:, None, :] * differences).sum(axis=(1, 2))
    return np.where(expected > 0, 1 - (totals - 1) * observed / np.where(expected > 0, expected, 1), np.nan)


def _interval(by_cluster: Matrix, level: Level, resamples: int) -> tuple[float, float] | None:
    """Return the percentiles of alpha over clusters drawn with replacement; None when they would say nothing."""
    count, size = by_cluster.shape[0], by_cluster.shape[1]
    if count < _FEWEST_CLUSTERS:
        return None
    # Most clusters look alike: to draw from them is to draw how often each look comes.
    looks, often = np.unique(by_cluster.reshape(count, -1), axis=0, return_counts=True)
    drawn = np.random.default_rng(_SEED).multinomial(count, often / count, size=resamples)
    alphas = _alphas((drawn @ looks).reshape(resamples, size, size), level)
    defined = alphas[~np.isnan(alphas)]
    if len(defined) < _FEWEST_DEFINED * resamples:
        return None
    low, high = np.percentile(defined, _INTERVAL)
    return float(low), float(high)
