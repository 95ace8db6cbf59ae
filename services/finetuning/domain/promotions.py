"""Promotions: an alias moves to a candidate by gate, canary and sequential check, or everything goes back.

The sequential check compares the rates of bad answers (thumbs down, and failures) of candidate and current adapter. It
may look after every judgement without inflating its error, because each rate has a confidence sequence: an interval that
holds at all times at once. For a Bernoulli rate the sequence inverts the Beta-mixture martingale (Robbins 1970; Howard,
Ramdas, McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences").
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from services.chassis.errors import Conflict

__all__ = ["Decision", "Promotion", "PromotionState", "PromotionStep", "Tally", "bounds", "decide"]


class PromotionState(StrEnum):
    """Where a promotion stands."""

    GATED = "gated"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


OPEN: Final = frozenset({PromotionState.GATED, PromotionState.CANARY})
_MOVES: Final = {
    PromotionState.GATED: {
        PromotionState.CANARY,
        PromotionState.PROMOTED,
        PromotionState.REFUSED,
        PromotionState.ROLLED_BACK,
    },
    PromotionState.CANARY: {PromotionState.PROMOTED, PromotionState.ROLLED_BACK},
    PromotionState.PROMOTED: {PromotionState.ROLLED_BACK},
}


@dataclass(frozen=True, slots=True)
class PromotionStep:
    """Something that happened to a promotion; `by` is empty for the room itself."""

    at: float
    state: PromotionState
    reason: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted of one adapter while a promotion was tried."""

    judged: int = 0
    bad: int = 0
    answers: int = 0
    failures: int = 0

    def judge(self, *, bad: bool) -> "Tally":
        """Return the tally with one more judgement."""
        return replace(self, judged=self.judged + 1, bad=self.bad + bad)

    def answer(self, *, failed: bool) -> "Tally":
        """Return the tally with one more answer."""
        return replace(self, answers=self.answers + 1, failures=self.failures + failed)


@dataclass(frozen=True, slots=True)
class Promotion:
    """One promotion.

    Attributes:
        promotion_id: Id.
        tenant: Tenant.
        alias: What is moved.
        candidate: Adapter that it is to lead to.
        previous: What it led to before; empty for nothing.
        state: Where it stands.
        canary_weight: Share of callers that the candidate answers while it is tried.
        min_judgements: Judged answers of the candidate that are enough for a decision.
        owner: Who opened it.
        created_at: Seconds since 1970.
        finished_at: When it came to its end; 0 while it is open.
        history: What happened, oldest first.
        of_candidate: What was counted of the candidate.
        of_current: What was counted of what the alias led to.
    """

    promotion_id: str
    tenant: str
    alias: str
    candidate: str
    previous: str
    state: PromotionState
    canary_weight: float
    min_judgements: int
    owner: str
    created_at: float
    finished_at: float = 0.0
    history: tuple[PromotionStep, ...] = ()
    of_candidate: Tally = Tally()
    of_current: Tally = Tally()

    def moved(self, state: PromotionState, at: float, reason: str, by: str = "") -> "Promotion":
        """Return the promotion in another state.

        Raises:
            Conflict: It cannot come to that state from where it is.
        """
        if state not in _MOVES.get(self.state, set()):
            raise Conflict(f"The promotion is {self.state.value}; it cannot become {state.value}.", param="promotion")
        return replace(
            self,
            state=state,
            finished_at=0.0 if state in OPEN else at,
            history=(*self.history, PromotionStep(at, state, reason, by)),
        )

    @property
    def is_open(self) -> bool:
        """Whether it has not come to its end."""
        return self.state in OPEN


class Decision(StrEnum):
    """What the sequential check says."""

    GO_ON = "go_on"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


# Together the four intervals miss a true rate with at most this probability, at any time.
ALPHA: Final = 0.05
# Bad answers that a candidate may have more of, as a share, and still be promoted: below this a difference of a few
# judgements decides nothing.
MARGIN: Final = 0.05


def decide(candidate: Tally, current: Tally, *, min_judgements: int) -> tuple[Decision, str]:
    """Return what the counts say, and why in words.

    Roll back as soon as the candidate is worse beyond doubt, in judgements or in failures. Promote when enough of its
    answers were judged, its share of bad ones is at most `MARGIN` above the current one's, and nothing says that it is
    worse. A current one that nobody judged counts as never bad.
    """
    for what, ours, theirs in (
        ("bad answers", (candidate.bad, candidate.judged), (current.bad, current.judged)),
        ("failures", (candidate.failures, candidate.answers), (current.failures, current.answers)),
    ):
        low, _ = bounds(*ours, alpha=ALPHA / 4)
        _, high = bounds(*theirs, alpha=ALPHA / 4)
        # Nothing is known of a current one without counts: its interval is all of 0 to 1 and the candidate is held to
        # the margin alone.
        if theirs[1] == 0:
            high = MARGIN
        if low > high:
            return Decision.ROLL_BACK, f"{what}: {_share(*ours)} against {_share(*theirs)}"
    if candidate.judged < min_judgements:
        return Decision.GO_ON, f"{candidate.judged} of {min_judgements} judgements"
    rate, usual = _rate(candidate.bad, candidate.judged), _rate(current.bad, current.judged)
    verdict = f"bad answers: {_share(candidate.bad, candidate.judged)} against {_share(current.bad, current.judged)}"
    if rate <= usual + MARGIN:
        return Decision.PROMOTE, verdict
    # Ten times the judgements and still worse by more than the margin, if not beyond doubt: it is not worth having.
    if candidate.judged >= 10 * min_judgements:
        return Decision.ROLL_BACK, verdict
    return Decision.GO_ON, verdict


def bounds(hits: int, trials: int, *, alpha: float) -> tuple[float, float]:
    """Return the time-uniform interval of a Bernoulli rate: the p at which the Beta(1/2, 1/2) mixture stays below 1/alpha.

    log M(p) = log B(hits + 1/2, misses + 1/2) - log B(1/2, 1/2) - hits log p - misses log(1 - p); M is a martingale under
    the true p, and by Ville's inequality it ever exceeds 1/alpha with probability at most alpha.
    """
    if trials == 0:
        return 0.0, 1.0
    misses = trials - hits
    mixture = _log_beta(hits + 0.5, misses + 0.5) - _log_beta(0.5, 0.5)

    def outside(rate: float) -> bool:
        likelihood = (hits * math.log(rate) if hits else 0.0) + (misses * math.log1p(-rate) if misses else 0.0)
        return mixture - likelihood > math.log(1 / alpha)

    middle = min(max(hits / trials, 1e-12), 1 - 1e-12)
    low = _edge(outside, 1e-12, middle) if hits else 0.0
    high = _edge(outside, 1 - 1e-12, middle) if misses else 1.0
    return low, high


def _edge(outside: Callable[[float], bool], far: float, inside: float) -> float:
    """Return where the interval ends between a rate outside and one inside, by bisection."""
    for _ in range(60):
        middle = (far + inside) / 2
        if outside(middle):
            far = middle
        else:
            inside = middle
    return inside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _rate(hits: int, trials: int) -> float:
    return hits / trials if trials else 0.0


def _share(hits: int, trials: int) -> str:
    return f"{hits} of {trials}"
