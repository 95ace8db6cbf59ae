"""Krippendorff's alpha against the worked examples of the paper that the module names, and what it says without overlap."""

import math

import pytest

from services.chat.domain.agreement import AgreementStatus, Level, Rating, measure

# K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011: the reliability data of its sections A, B and C.
BINARY = {"Meg": "0 1 0 0 0 0 0 0 1 0", "Owen": "1 1 1 0 0 1 0 0 0 0"}
NOMINAL = {"Ben": "1 1 2 2 4 3 3 3 5 4 4 1", "Gerry": "2 1 2 2 2 3 3 3 5 4 4 4"}
INCOMPLETE = {
    "A": "1 2 3 3 2 1 4 1 2 . . .",
    "B": "1 2 3 3 2 2 4 1 2 5 . 3",
    "C": ". 3 3 3 2 3 4 2 2 5 1 .",
    "D": "1 2 3 3 2 4 4 1 2 5 1 .",
}


def ratings(table: dict[str, str]) -> list[Rating]:
    return [
        Rating(f"unit {unit}", rater, float(value))
        for rater, row in table.items()
        for unit, value in enumerate(row.split())
        if value != "."
    ]


@pytest.mark.parametrize(
    ("table", "level", "alpha"),
    [
        (BINARY, Level.NOMINAL, 0.095),
        (NOMINAL, Level.NOMINAL, 0.692),
        (INCOMPLETE, Level.NOMINAL, 0.743),
        (INCOMPLETE, Level.ORDINAL, 0.815),
    ],
)
def test_alpha_is_that_of_the_published_examples(table: dict[str, str], level: Level, alpha: float) -> None:
    measured = measure(ratings(table), level)
    assert measured.status is AgreementStatus.MEASURED
    assert measured.alpha == pytest.approx(alpha, abs=0.0005)


def test_what_one_rater_alone_judged_pairs_with_nothing() -> None:
    measured = measure(ratings(INCOMPLETE), Level.NOMINAL)
    # The paper: 41 values, of which that of unit 12 pairs with none.
    assert (measured.raters, measured.units, measured.pairable_values, measured.values) == (4, 11, 40, 41)


def test_perfect_agreement_is_1_and_opposite_rankings_are_below_0() -> None:
    same = [Rating(f"c{n} {answer}", rater, rank, f"c{n}") for n in range(9) for rater in "xyz" for answer, rank in (("a", 1), ("b", 2), ("c", 3))]  # fmt: skip
    measured = measure(same, Level.ORDINAL)
    assert (measured.alpha, measured.interval) == (1.0, (1.0, 1.0))
    ranks = {"x": {"a": 1.0, "b": 2.0}, "y": {"a": 2.0, "b": 1.0}}
    opposite = [Rating(f"c{n} {answer}", rater, rank, f"c{n}") for n in range(9) for rater, given in ranks.items() for answer, rank in given.items()]  # fmt: skip
    assert (measure(opposite, Level.ORDINAL).alpha or 0) < -0.9


def test_the_interval_holds_alpha_and_narrows_with_more_units() -> None:
    few = measure(ratings(INCOMPLETE), Level.NOMINAL)
    many = measure(
        [Rating(f"{one.unit} {copy}", one.rater, one.value) for copy in range(16) for one in ratings(INCOMPLETE)],
        Level.NOMINAL,
    )
    assert few.interval is not None
    assert many.interval is not None
    assert few.interval[0] < (few.alpha or math.nan) < few.interval[1]
    assert many.interval[1] - many.interval[0] < (few.interval[1] - few.interval[0]) / 2
    # Whoever asks again gets the same.
    assert measure(ratings(INCOMPLETE), Level.NOMINAL) == few


def test_the_answers_of_one_comparison_are_drawn_together() -> None:
    def of(clusters: int) -> list[Rating]:
        return [Rating(f"{u}", rater, float(v), f"c{u % clusters}") for rater, row in NOMINAL.items() for u, v in enumerate(row.split())]  # fmt: skip

    # From one cluster nothing can be drawn, however many units it has.
    assert measure(of(1), Level.NOMINAL).interval is None
    assert measure(of(6), Level.NOMINAL).interval is not None
    assert measure(of(6), Level.NOMINAL).alpha == measure(of(1), Level.NOMINAL).alpha


def test_without_overlap_there_is_no_number() -> None:
    alone = [Rating("u1", "x", 1), Rating("u2", "y", 0)]
    measured = measure(alone, Level.NOMINAL)
    assert (measured.status, measured.alpha, measured.values) == (AgreementStatus.NOT_ENOUGH_OVERLAP, None, 2)
    assert measure([], Level.ORDINAL).status is AgreementStatus.NOT_ENOUGH_OVERLAP


def test_without_variation_chance_would_agree_as_well() -> None:
    measured = measure([Rating(u, rater, 1) for u in "abc" for rater in "xy"], Level.NOMINAL)
    assert (measured.status, measured.alpha) == (AgreementStatus.NO_VARIATION, None)
    assert (measured.units, measured.raters) == (3, 2)


def test_a_rater_has_one_value_for_a_unit_the_later_one() -> None:
    changed = [Rating("u", "x", 0), *ratings(BINARY), Rating("u", "x", 1), Rating("u", "y", 1)]
    settled = [*ratings(BINARY), Rating("u", "x", 1), Rating("u", "y", 1)]
    assert measure(changed, Level.NOMINAL) == measure(settled, Level.NOMINAL)
