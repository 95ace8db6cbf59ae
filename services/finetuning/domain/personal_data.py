"""Personal data in texts: e-mail addresses, telephone numbers, bank accounts, cards and national identifiers.

Numbers count only where a checksum of theirs holds, so that order numbers and prices are left alone. What is found is
counted; it is returned to nobody.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final


class PersonalData(StrEnum):
    """Kinds of personal data."""

    EMAIL = "email"
    PHONE = "phone"
    IBAN = "iban"
    CARD = "card"
    NATIONAL_ID = "national_id"


def found_in(text: str) -> Counter[PersonalData]:
    """Return how many of each kind stand in a text."""
    found: Counter[PersonalData] = Counter()
    taken: list[tuple[int, int]] = []
    for check in _CHECKS:
        for match in check.pattern.finditer(text):
            start, end = match.span()
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            if check.holds(match.group()):
                taken.append((start, end))
                found[check.kind] += 1
    return found


@dataclass(frozen=True, slots=True)
class _Check:
    kind: PersonalData
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]


def _digits(text: str) -> list[int]:
    return [int(character) for character in text if character in "0123456789"]


def _alphanumeric(text: str) -> str:
    return "".join(character for character in text if character.isalnum()).upper()


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True))


def _luhn(digits: Sequence[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [digit if at % 2 == 0 else digit * 2 for at, digit in enumerate(reversed(digits))]
    return sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0


# Lengths of card numbers by how they begin: Visa, Mastercard, American Express, Diners Club, JCB, Discover and UnionPay.
_CARDS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}|3[47]\d{13}|"
    r"3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|22\d|4[4-9]\d|5\d{2})\d{12,15}"
)


def _is_card(text: str) -> bool:
    digits = _digits(text)
    return bool(_CARDS.fullmatch("".join(map(str, digits)))) and _luhn(digits)


# Lengths by country, of the IBAN registry (ISO 13616).
_IBAN_LENGTHS: Final = dict(
    pair.split(":")
    for pair in [
        "AD:24",
        "AE:23",
        "AL:28",
        "AT:20",
        "AZ:28",
        "BA:20",
        "BE:16",
        "BG:22",
        "BH:22",
        "BR:29",
        "BY:28",
        "CH:21",
        "CR:22",
        "CY:28",
        "CZ:24",
        "DE:22",
        "DK:18",
        "DO:28",
        "EE:20",
        "EG:29",
        "ES:24",
        "FI:18",
        "FO:18",
        "FR:27",
        "GB:22",
        "GE:22",
        "GI:23",
        "GL:18",
        "GR:27",
        "GT:28",
        "HR:21",
        "HU:28",
        "IE:22",
        "IL:23",
        "IQ:23",
        "IS:26",
        "IT:27",
        "JO:30",
        "KW:30",
        "KZ:20",
        "LB:28",
        "LC:32",
        "LI:21",
        "LT:20",
        "LU:20",
        "LV:21",
        "MC:27",
        "MD:24",
        "ME:22",
        "MK:19",
        "MR:27",
        "MT:31",
        "MU:30",
        "NL:18",
        "NO:15",
        "PK:24",
        "PL:28",
        "PS:29",
        "PT:25",
        "QA:29",
        "RO:24",
        "RS:22",
        "SA:24",
        "SC:31",
        "SE:24",
        "SI:19",
        "SK:24",
        "SM:27",
        "ST:25",
        "SV:28",
        "TL:23",
        "TN:24",
        "TR:26",
        "UA:29",
        "VA:22",
        "VG:24",
        "XK:20",
    ]
)


def _is_iban(text: str) -> bool:
    """ISO 7064, modulo 97."""
    number = _alphanumeric(text)
    wanted = int(_IBAN_LENGTHS.get(number[:2], 0))
    # A word may follow after a space; what is longer than the country's numbers is cut.
    number = number[:wanted]
    if not wanted or len(number) != wanted:
        return False
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    return 8 <= len(_digits(text)) <= 15


def _is_spanish(text: str) -> bool:
    """DNI and NIE: the letter follows from the number modulo 23."""
    number = _alphanumeric(text)
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:-1].translate(str.maketrans("XYZ", "012"))) % 23] == number[-1]


def _is_french(text: str) -> bool:
    """NIR: 97 minus the number modulo 97; Corsica counts as 19 and 18."""
    number = _alphanumeric(text).replace("2A", "19").replace("2B", "18")
    return number.isdigit() and len(number) == 15 and 97 - int(number[:13]) % 97 == int(number[13:])


_ODD: Final = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", [1, 0, 5, 7, 9, 13, 15, 17, 19, 21] * 2 + [2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23], strict=True)
)  # fmt: skip


def _is_italian(text: str) -> bool:
    """Codice fiscale: the last letter follows from the others, those in odd places by a table of their own."""
    code = text.upper()
    total = sum(
        _ODD[character] if at % 2 == 0 else int(character) if character.isdigit() else ord(character) - ord("A")
        for at, character in enumerate(code[:15])
    )
    return chr(ord("A") + total % 26) == code[15]


def _is_polish(text: str) -> bool:
    """PESEL: weights 1, 3, 7, 9, and a date of birth whose month tells the century."""
    digits = _digits(text)
    month = digits[2] * 10 + digits[3]
    if not _is_date(2000 + digits[0] * 10 + digits[1], month % 20, digits[4] * 10 + digits[5]):
        return False
    return _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _is_german(text: str) -> bool:
    """Steuer-IdNr: ISO 7064, modulo 11 and 10, and one digit of the first ten stands twice or thrice."""
    digits = _digits(text)
    counts = Counter(digits[:10])
    if digits[0] == 0 or max(counts.values()) not in (2, 3) or len(counts) not in (8, 9):
        return False
    product = 10
    for digit in digits[:10]:
        total = (digit + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == digits[10]


def _is_finnish(text: str) -> bool:
    """Henkilötunnus: the last sign follows from date and number modulo 31."""
    code = text.upper()
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(code[:6] + code[7:10]) % 31] == code[10]


def _is_swedish(text: str) -> bool:
    """Personnummer: a date, then Luhn over the ten digits."""
    digits = _digits(text)[-10:]
    day = digits[4] * 10 + digits[5]
    born = _is_date(2000 + digits[0] * 10 + digits[1], digits[2] * 10 + digits[3], day % 60)
    return born and _luhn(digits)


def _is_american(text: str) -> bool:
    """Social security number: no checksum, but areas, groups and serials that are never given."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _always(_text: str) -> bool:
    return True


def _pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern that begins and ends at the border of a word or number."""
    return re.compile(rf"(?<![\w+]){pattern}(?!\w)", flags)


# In the order in which they take what they find: a card is no telephone number.
_CHECKS: Final = (
    _Check(
        PersonalData.EMAIL,
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?!\w)"),
        _always,
    ),
    _Check(PersonalData.IBAN, _pattern(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){2,8}"), _is_iban),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"(?:\d{8}|[XYZ]\d{7})-?[A-Z]"), _is_spanish),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"), _is_french),
    _Check(
        PersonalData.NATIONAL_ID, _pattern(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", re.IGNORECASE), _is_italian
    ),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"\d{11}"), _is_polish),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"), _is_german),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"\d{6}[-+ABCDEF]\d{3}[0-9A-Y]"), _is_finnish),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"(?:\d{2})?\d{6}[-+]\d{4}"), _is_swedish),
    _Check(PersonalData.NATIONAL_ID, _pattern(r"\d{3}-\d{2}-\d{4}"), _is_american),
    _Check(PersonalData.CARD, _pattern(r"\d(?:[ -]?\d){12,18}"), _is_card),
    _Check(
        PersonalData.PHONE,
        re.compile(
            r"(?<![\w.+/-])(?:(?:\+|(?<!\d )00)[1-9]\d{0,2}[ /.-]?(?:\(0?\d{1,5}\)[ /.-]?)?\d{1,5}(?:[ /.-]?\d{2,5}){1,4}"
            r"|\(0?\d{2,5}\)[ /-]?\d{2,5}(?:[ -]?\d{2,5}){1,3}|(?<!\d )0[1-9]\d{0,3}[ /-]\d{2,5}(?:[ -]?\d{2,5}){1,3})(?![\w/]|[.,]\d)"
        ),
        _is_phone,
    ),
)
