"""Personal data is counted where it is some, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.finetuning.domain.personal_data import PersonalData, found_in


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to gwen.hughes+help@alder-valley.example.org now.", PersonalData.EMAIL),
        ("Mail: a@b.io", PersonalData.EMAIL),
        ("Call +43 316 123456 or not", PersonalData.PHONE),
        ("Call 0043 (0)316 12 34 56", PersonalData.PHONE),
        ("tel. (0316) 123-4567", PersonalData.PHONE),
        ("Phone 020 7946 0958", PersonalData.PHONE),
        ("+1-202-555-0143", PersonalData.PHONE),
        ("Pay to DE89 3704 0044 0532 0130 00 please", PersonalData.IBAN),
        ("GB82WEST12345698765432", PersonalData.IBAN),
        ("AT611904300234573201", PersonalData.IBAN),
        ("card 4111 1111 1111 1111", PersonalData.CARD),
        ("378282246310005", PersonalData.CARD),
        ("5555-5555-5555-4444", PersonalData.CARD),
        ("DNI 12345678Z", PersonalData.NATIONAL_ID),
        ("NIE X1234567L", PersonalData.NATIONAL_ID),
        ("NIR 1 84 12 76 451 089 46", PersonalData.NATIONAL_ID),
        ("RSSMRA85T10A562S", PersonalData.NATIONAL_ID),
        ("PESEL 44051401359", PersonalData.NATIONAL_ID),
        ("Steuer-ID 86 095 742 719", PersonalData.NATIONAL_ID),
        ("131052-308T", PersonalData.NATIONAL_ID),
        ("811218-9876", PersonalData.NATIONAL_ID),
        ("SSN 078-05-1120", PersonalData.NATIONAL_ID),
    ],
)
def test_it_is_found(text: str, kind: PersonalData) -> None:
    assert dict(found_in(text)) == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "It costs 1,240 euros and weighs 4111 grams.",
        "Order 4111 1111 1111 1112 of 2026-03-10 is article SX-1234.",
        "DE89 3704 0044 0532 0130 01",
        "ZZ89 3704 0044 0532 0130 00",
        "12345678A",
        "From 08:15 to 12:30, on 10/03/2026 and 10.03.2026.",
        "See 1.2.3.4 and version 10.12.2024 in room A123, extension 4477.",
        "000-12-3456",
        "44051401358",
        "RSSMRA85T10A562T",
        "131052-308U",
        "a @ b, user@host, @name",
        "0000 0000 0000 0000",
        "From 5 pieces on a tenth is taken off; 300 to 400 are kept.",
    ],
)
def test_it_is_not_found_where_there_is_none(text: str) -> None:
    assert dict(found_in(text)) == {}


def test_all_are_counted_and_nothing_twice() -> None:
    text = "a@b.io, c@d.io; DE89370400440532013000 4111111111111111 +43 316 123456"
    assert dict(found_in(text)) == {
        PersonalData.EMAIL: 2,
        PersonalData.IBAN: 1,
        PersonalData.CARD: 1,
        PersonalData.PHONE: 1,
    }


@given(st.text(max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    assert all(count > 0 for count in found_in(text).values())


@pytest.mark.parametrize("piece", ["0 ", "1-", "a.", "+1 ", "(0)", "A0", "9" * 20 + " ", "DE89 "])
def test_no_text_takes_for_ever(piece: str) -> None:
    found_in(piece * 20_000)
