"""From the last question and the history to search queries that stand by themselves.

A question that needs no history is used as it is. Otherwise the model rewrites it, and what it wrote is checked; what
fails the check is replaced by a lexical rewrite: the thing spoken of is put in the pronoun's place, or salient words of
the history are added. A question with several parts becomes several queries.
"""

import re
from collections.abc import Sequence

from services.chat.domain.facts import names
from services.chat.domain.turn import Message
from services.chat.domain.words import content, normalise, stem, tokens

MOST_REWRITE_TOKENS = 32
"""Most tokens that the model may spend on a rewrite."""
MOST_QUERIES = 4
"""Most queries of one turn."""

_PRONOUNS = frozenset(
    [
        "it",
        "its",
        "itself",
        "he",
        "him",
        "his",
        "she",
        "her",
        "hers",
        "they",
        "them",
        "their",
        "theirs",
        "this",
        "that",
        "these",
        "those",
        "there",
        "one",
        "ones",
        "former",
        "latter",
        "same",
        "such",
        "other",
        "others",
        "else",
    ]
)
_PERSONS = frozenset(["he", "him", "his", "she", "her", "hers", "they", "them", "their", "theirs"])
_ELLIPSIS = re.compile(
    r"^\s*(?:and|but|or|so|also|what about|how about|what else|anything else|why|why not|how so|how come|when|where|who|"
    r"how much|how many|how long|really|are you sure|more|tell me more|go on|for example|such as|in that case|then)\b[\s,]*",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^\s*(?:and|but|or|so|also|then)\b[\s,]*", re.IGNORECASE)
_ABOUT = re.compile(
    r"^\s*(?:and|but|or|so|also)?[\s,]*(?:(?:what|how)\s+about|and|for|what of)\s+(?P<rest>.+?)\s*\??$", re.IGNORECASE
)
# "that" joins clauses and "there is" opens them more often than they point back.
_NOT_ANAPHORA = re.compile(
    r"\b(?:is|are|was|were) there\b|\bthere (?:is|are|was|were)\b|\b\w+ that\b(?=\s+\w+)|\bthe same\b", re.IGNORECASE
)
# A question of fewer content words says too little without what came before.
_SHORT = 2


def last_question(messages: Sequence[Message]) -> str:
    """Return the text of the last user turn."""
    return messages[-1].content.strip()


def is_self_contained(question: str, history: Sequence[Message]) -> bool:
    """Whether a question can be searched for as it is: nothing came before, or it neither points back nor is cut short."""
    if not any(message.role in {"user", "assistant"} for message in history):
        return True
    words = tokens(_NOT_ANAPHORA.sub(" ", question))
    if any(token.norm in _PRONOUNS for token in words):
        return False
    named = names(question)
    if _LEADING.match(question) or (_ELLIPSIS.match(question) and len(content(question)) <= _SHORT and not named):
        return False
    if _ABOUT.match(question):
        return False
    meaning = [token for token in content(question) if not token.is_generic]
    return len(meaning) > _SHORT or bool(named and len(meaning) >= _SHORT)


_PART = re.compile(
    r"\?\s+(?=\S)|;\s+|,?\s+and\s+(?=(?:who|what|when|where|which|why|how|is|are|does|do|can|will)\b)", re.IGNORECASE
)


def split(question: str) -> tuple[str, ...]:
    """Return the parts of a question, each with the names of the first that it lacks; the whole when it has one part.

    >>> split("Who leads Falcon and when does it end?")
    ('Who leads Falcon?', 'when does Falcon end?')
    """
    pieces = [piece.strip(" ?;,") for piece in _PART.split(question)]
    pieces = [piece for piece in pieces if piece and any(not token.is_generic for token in content(piece))]
    if len(pieces) < 2 or not all(_asks(piece) for piece in pieces):
        return (question.strip(),)
    topic = _topic(pieces[0])
    parts = [f"{pieces[0]}?"]
    for piece in pieces[1:]:
        resolved = _replace_pronoun(piece, topic, topic) if topic else piece
        parts.append(f"{resolved}?")
    return tuple(parts[:MOST_QUERIES])


def _asks(piece: str) -> bool:
    first = tokens(piece)[:1]
    return bool(first) and first[0].norm in {
        *(
            "who",
            "whom",
            "whose",
            "what",
            "when",
            "where",
            "which",
            "why",
            "how",
            "is",
            "are",
            "was",
            "were",
            "does",
            "do",
        ),
        *(
            "did",
            "can",
            "could",
            "will",
            "would",
            "should",
            "may",
            "has",
            "have",
            "tell",
            "list",
            "name",
            "give",
            "explain",
        ),
    }


_NAME_RUN = re.compile(r"\b(?:[A-Z][\w&-]*|\d[\w-]*)(?:\s+(?:of\s+|and\s+|the\s+)?(?:[A-Z][\w&-]*|\d[\w-]*))*")


def _topic(text: str) -> str:
    """Return the longest named thing of a text, as written there; empty when it names nothing."""
    wanted = set(names(text))
    runs = []
    for match in _NAME_RUN.finditer(text):
        run = match.group()
        words = run.split()
        while words and normalise(words[0]) not in wanted:
            words = words[1:]
        while words and normalise(words[-1]) not in wanted and not words[-1][0].isdigit():
            words = words[:-1]
        if words:
            runs.append(" ".join(words))
    return max(runs, key=len, default="")


def _subject(text: str) -> str:
    """Return the noun phrase a question without names is about: its last run of content words ("the travel policy")."""
    runs: list[list[str]] = [[]]
    previous_end = None
    for token in tokens(text):
        joined = previous_end is None or text[previous_end : token.start].strip() == ""
        if token.is_content and not token.is_generic and joined:
            runs[-1].append(token.text)
        elif token.is_content and not token.is_generic:
            runs.append([token.text])
        else:
            runs.append([])
        previous_end = token.end
    longest: list[str] = max(runs, key=len)
    return " ".join(longest)


def _person(history: Sequence[Message]) -> str:
    for message in reversed(history):
        for match in reversed(list(re.finditer(r"\b[A-Z][a-z'’-]+(?:\s+[A-Z][a-z'’-]+)+\b", message.content))):
            if all(word.lower() not in _NOT_PERSON for word in match.group().split()):
                return match.group()
    return ""


_NOT_PERSON = frozenset(
    [
        "project",
        "policy",
        "plan",
        "program",
        "programme",
        "team",
        "department",
        "office",
        "group",
        "company",
        "product",
        "the",
        "who",
        "what",
    ]
)


def _replace_pronoun(question: str, topic: str, person: str) -> str:
    for token in tokens(question):
        if token.norm not in _PRONOUNS or token.norm in {"other", "others", "else", "such", "same"}:
            continue
        if _NOT_ANAPHORA.search(question) and token.norm in {"there", "that"}:
            continue
        name = person if token.norm in _PERSONS and person else topic
        possessive = token.norm in {"its", "his", "their", "her", "theirs", "hers"}
        # "this plan", "that project": the noun stays and the name goes before it
        following = question[token.end :].lstrip()
        if token.norm in {"this", "that", "these", "those"} and following[:1].isalpha():
            first = normalise(following.split()[0].strip("?,.!"))
            if first in name.casefold().split():
                following_end = question.index(following.split()[0], token.end) + len(
                    following.split()[0].strip("?,.!")
                )
                return question[: token.start] + name + question[following_end:]
            return question[: token.start] + name + " " + following
        return question[: token.start] + name + ("'s" if possessive else "") + question[token.end :]
    return question


def lexical_rewrite(question: str, history: Sequence[Message]) -> str:
    """Return the question with what it lacks taken from the history, without a model.

    In this order: "what about X?" repeats the last question about X; a pronoun is replaced by what was spoken of; else
    the salient words of the last question (then of the last answer) are added.
    """
    asked = [message.content for message in history if message.role == "user"]
    said = [message.content for message in history if message.role == "assistant"]
    previous = asked[-1] if asked else ""
    topic = next((found for text in reversed(asked) if (found := _topic(text))), "")
    topic = topic or next((found for text in reversed(said) if (found := _topic(text))), "") or _subject(previous)
    about = _ABOUT.match(question)
    if about and previous and not any(token.norm in _PRONOUNS for token in tokens(about["rest"])):
        return _instead(previous, about["rest"], topic)
    bare = _LEADING.sub("", question) or question
    resolved = _replace_pronoun(bare, topic, _person(history)) if topic else bare
    if resolved != bare:
        return resolved
    return _with_salient(bare, [previous, *said[-1:]])


def _instead(previous: str, rest: str, topic: str) -> str:
    """Return the previous question asked about something else: in the topic's place when both are names, else added."""
    if topic and topic in previous and names(f"about {rest}"):
        return previous.replace(topic, re.sub(r"^(?:the|for|in|at|of)\s+", "", rest, flags=re.IGNORECASE))
    return f"{previous.rstrip(' ?.')} {rest}?"


# Most words that are added from the history: more would drown the question.
_MOST_ADDED = 6


def _with_salient(question: str, texts: Sequence[str]) -> str:
    have = {token.stem for token in tokens(question)}
    added: list[str] = []
    for text in texts:
        named = set(names(text))
        words = [token for token in content(text) if not token.is_generic]
        for token in sorted(words, key=lambda token: token.norm not in named):
            if token.stem not in have and len(added) < _MOST_ADDED:
                have.add(token.stem)
                added.append(token.text)
        if added:
            break
    return f"{question.rstrip(' ?.')} {' '.join(added)}?" if added else question


_LABEL = re.compile(
    r"^\s*(?:rewritten\s+)?(?:question|query|search|answer|rewrite|standalone question)\s*:\s*", re.IGNORECASE
)
# A rewrite longer than this many words is an answer or a ramble.
_LONGEST_REWRITE = 30


def accept_rewrite(output: str, question: str, history: Sequence[Message]) -> str | None:
    """Return the model's rewrite when it parses and helps, else None.

    It must be one line, not too long, keep at least half of the question's content words, take at least one content word
    from the history, bring none of its own beyond one, repeat nothing three times, and no longer point back.
    """
    line = next((line for line in output.strip().splitlines() if line.strip()), "")
    text = _LABEL.sub("", line).strip().strip("\"'“”*` ")
    words = tokens(text)
    if not text or len(words) > _LONGEST_REWRITE or normalise(text) == normalise(question):
        return None
    stems = [token.stem for token in words if token.is_content]
    if any(stems.count(one) >= 3 for one in stems) or any(
        token.norm in _PRONOUNS - {"that", "there"} for token in words
    ):
        return None
    asked = {token.stem for token in content(question) if not token.is_generic and token.norm not in _PRONOUNS}
    known = {stem(token.norm) for message in history for token in content(message.content)}
    kept = asked & set(stems)
    if len(kept) * 2 < len(asked):
        return None
    if not (set(stems) - asked) & known:
        return None
    own = [one for one in dict.fromkeys(stems) if one not in known and one not in asked]
    return text if len(own) <= 1 else None
