"""What in a text names something."""

from services.layout.words import Token, tokens

MONTHS = {
    name[:length]: number
    for number, name in enumerate(
        [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ],
        start=1,
    )
    for length in (3, len(name))
} | {"sept": 9}
"""Number of each month by its name, long and short."""

_CALENDAR = frozenset(MONTHS) | frozenset(
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
)
# Words that stand capitalised without being a name.
_NOT_NAMES = frozenset(
    [
        "yes",
        "no",
        "according",
        "based",
        "however",
        "therefore",
        "additionally",
        "also",
        "overall",
        "note",
        "answer",
        "question",
        "document",
    ]
)


def names(text: str) -> tuple[str, ...]:
    """Return the words of a text that name something: capitalised inside a sentence, all capitals, or with digits inside.

    The first word of a sentence counts only when another name follows it at once ("Maria Lopez leads").
    """
    words = tokens(text)
    found: list[str] = []
    for position, token in enumerate(words):
        if not _looks_like_name(token):
            continue
        before = text[: token.start].rstrip()
        opens = not before or before[-1] in ".!?:•\n-*|" or "\n" in text[len(before) : token.start]
        acronym = len(token.text) > 1 and sum(character.isupper() for character in token.text) > 1
        coded = any(character.isdigit() for character in token.text)
        followed = (
            position + 1 < len(words)
            and _looks_like_name(words[position + 1])
            and text[token.end : words[position + 1].start] in {" ", "-", " & "}
        )
        if not opens or acronym or coded or followed:
            found.append(token.norm)
    return tuple(found)


def _looks_like_name(token: Token) -> bool:
    if token.is_number or not token.is_content or token.norm in _NOT_NAMES or token.norm in _CALENDAR:
        return False
    return token.text[0].isupper() or (any(map(str.isdigit, token.text)) and any(map(str.isalpha, token.text)))
