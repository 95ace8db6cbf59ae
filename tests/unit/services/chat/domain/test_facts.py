"""Numbers and dates agree in any form."""

from services.chat.domain import facts


def test_numbers_keep_their_units() -> None:
    values = {
        (str(number.value.normalize()), number.unit) for number in facts.numbers("$1,000, 20 % and thirty days in Q3")
    }
    assert values == {("1E+3", "$"), ("2E+1", "%"), ("3E+1", "day")}


def test_dates_agree_in_any_form() -> None:
    assert facts.numbers_agree("It began on 2024-05-03.", "It began on May 3rd, 2024.")
    assert not facts.numbers_agree("It began on 2024-05-04.", "It began on May 3rd, 2024.")
