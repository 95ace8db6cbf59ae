"""From the last question and the history to search queries that stand by themselves.

A question that needs no history is used as it is. Otherwise the model rewrites it, and what it wrote is checked; what
fails the check is replaced by a lexical rewrite: the thing spoken of is put in the pronoun's place, or salient words of
the history are added. A question with several parts becomes several queries.
"""

import re
from collections.abc import Sequence

from services.chat.domain.turn import Message
from services.layout.names import names
from services.layout.words import content, normalise, sentences, stem, tokens

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
    r"\b(?:is|are|was|were) there\b|\bthere (?:is|are|was|were)\b|\bthe same\b|"
    r"\b(?!(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had|of|for|in|on|at|with|by|from|to|about)\b)\w+ that\b"
    r"(?=\s+\w+)",
    re.IGNORECASE,
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

    Of a message that tells before it asks, the whole comes first, then what it asks: what is told may help to find, and
    must not hide that the question by itself is answered.

    >>> split("Who leads Falcon and when does it end?")
    ('Who leads Falcon?', 'when does Falcon end?')
    >>> split("I go to Rome in May. How do I book a hotel?")
    ('I go to Rome in May. How do I book a hotel?', 'How do I book a hotel?')
    """
    said = [one.text for one in sentences(question)]
    asking = [one for one in said if _asks(one) and len(content(one)) >= _SHORT]
    if asking and len(asking) < len(said):
        return (question.strip(), *asking)[:MOST_QUERIES]
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


# "how long", "how many years": what is asked for, not what is spoken of.
_MEASURED = re.compile(
    r"\bhow\s+(?:much|many|long|often|old|far|big|large|high|tall|soon|quickly|fast|\w+ly)\b", re.IGNORECASE
)


def _blank_measured(text: str) -> str:
    return _MEASURED.sub(lambda match: " " * len(match.group()), text)


def _subject(text: str) -> str:
    """Return the noun phrase a question without names is about: its longest run of content words ("the travel policy").

    Of runs of equal length the first counts: what is spoken of stands before what is said of it.
    """
    runs: list[list[str]] = [[]]
    previous_end = None
    asked = _blank_measured(text)
    for token in tokens(asked):
        joined = previous_end is None or asked[previous_end : token.start].strip() == ""
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


_POINTERS = _PRONOUNS - {"other", "others", "else", "such", "same"}
_POSSESSIVES = frozenset({"its", "his", "their", "her", "theirs", "hers"})
_DETERMINERS = frozenset({"this", "that", "these", "those"})


def _replace_pronoun(question: str, topic: str, person: str) -> str:
    """Return the question with its first word that points back replaced by what it may point to."""
    joining = [(match.start(), match.end()) for match in _NOT_ANAPHORA.finditer(question)]
    for token in tokens(question):
        if token.norm not in _POINTERS or any(start <= token.start < end for start, end in joining):
            continue
        name = person if token.norm in _PERSONS and person else topic
        before, after = question[: token.start], question[token.end :]
        if token.norm == "there":
            return f"{before}at {name}{after}"
        following = tokens(after)[:1]
        # "this plan", "that project": the noun stays and the name goes before it.
        if token.norm in _DETERMINERS and following and following[0].is_content and after[:1] == " ":
            noun = following[0]
            kept = after[noun.end :] if noun.norm in name.casefold().split() else f" {after.lstrip()}"
            return before + name + kept
        return before + name + ("'s" if token.norm in _POSSESSIVES else "") + after
    return question


def lexical_rewrite(question: str, history: Sequence[Message]) -> str:
    """Return the question with what it lacks taken from the history, without a model.

    In this order: "what about X?" repeats the last question about X; a pronoun is replaced by the named thing or person
    that was spoken of; else the salient words of the last question (then of the last answer) follow in brackets.
    """
    asked = [message.content for message in history if message.role == "user"]
    said = [message.content for message in history if message.role == "assistant"]
    previous = asked[-1] if asked else ""
    named = next((found for text in (*reversed(asked), *reversed(said)) if (found := _topic(text))), "")
    topic = named or _subject(previous)
    about = _ABOUT.match(question)
    points = any(token.norm in _PRONOUNS for token in tokens(question))
    if about and previous and not points and not _asks(about["rest"]):
        return _instead(previous, about["rest"], topic)
    bare = _LEADING.sub("", question) or question
    # "that" and "those" stand for something said of the named thing as often as for the thing itself.
    vague = any(token.norm in _DETERMINERS for token in tokens(_NOT_ANAPHORA.sub(" ", bare)))
    resolved = _replace_pronoun(bare, topic, _person(history)) if topic and not vague else bare
    if resolved != bare:
        return resolved
    return _with_salient(bare, [previous, *said[-1:]])


_PREPOSITION = re.compile(r"^(?:on|in|at|for|with|from|during|before|after|by|per|to)\b", re.IGNORECASE)


def _instead(previous: str, rest: str, topic: str) -> str:
    """Return the previous question asked about something else.

    A name takes the topic's place; "on Saturdays" takes the place of what the previous question begins alike ("on working
    days"); anything else is added.
    """
    preposition = _PREPOSITION.match(rest)
    if preposition is not None:
        begins_alike = re.search(rf"\s{preposition.group()}\s[^?]+$", previous.rstrip(" ?."), re.IGNORECASE)
        kept = previous[: begins_alike.start()] if begins_alike else previous.rstrip(" ?.")
        return f"{kept} {rest}?"
    if topic and topic in previous and names(f"about {rest}"):
        return previous.replace(topic, re.sub(r"^(?:the|of)\s+", "", rest, flags=re.IGNORECASE))
    return f"{previous.rstrip(' ?.')} {rest}?"


# Most words that are added from the history: more would drown the question.
_MOST_ADDED = 6


def _with_salient(question: str, texts: Sequence[str]) -> str:
    have = {token.stem for token in tokens(question)}
    for text in texts:
        named = set(names(text))
        words = {token.stem: token for token in reversed(content(_blank_measured(text))) if not token.is_generic}
        new = [token for token in words.values() if token.stem not in have]
        chosen = sorted(new, key=lambda token: (token.norm not in named, token.start))[:_MOST_ADDED]
        if chosen:
            added = " ".join(token.text for token in sorted(chosen, key=lambda token: token.start))
            return f"{question.rstrip(' ?.')} ({added})?"
    return question


_LABEL = re.compile(
    r"^\s*(?:rewritten\s+)?(?:question|query|search|answer|rewrite|standalone question)\s*:\s*", re.IGNORECASE
)
# A rewrite longer than this many words is an answer or a ramble.
_LONGEST_REWRITE = 30


def accept_rewrite(output: str, question: str, history: Sequence[Message]) -> str | None:
    """Return the model's rewrite when it parses and helps, else None.

    It must be one line, not too long, ask what the question asks (a model that answers instead says "The office has 12
    desks."), keep at least half of its content words, take at least one content word from the history, bring no number
    and at most one word of its own, repeat nothing three times, and no longer point back.
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
    if not _asks_alike(text, question, history) or not {token.norm for token in words if token.is_number} <= {
        token.norm for given in (question, *(message.content for message in history)) for token in tokens(given)
    }:
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


_INTERROGATIVES = frozenset({"who", "whom", "whose", "what", "when", "where", "which", "why", "how"})


def _asks_alike(rewrite: str, question: str, history: Sequence[Message]) -> bool:
    """Whether a rewrite asks at all, and with the interrogative of the question, or else of the question before it."""
    asked = [message.content for message in history if message.role == "user"][-1:]
    interrogatives = (token.norm for text in (question, *asked) for token in tokens(text))
    wanted = next((norm for norm in interrogatives if norm in _INTERROGATIVES), "")
    if wanted:
        return any(token.norm == wanted for token in tokens(rewrite))
    return _asks(rewrite)
