"""Facts of plain English sentences, without a model.

A sentence that holds something one can ask for (an amount, a date, a person, a code) becomes a question: by a pattern
where one fits ("X is led by Y", "The N of X is Y", "X costs Y"), and always by putting the question word in the answer's
place ("Laptops are replaced after how many years?"), which needs no grammar and loses no meaning. It is meant for
companies that have no model to write with, and for demonstrations; a model writes better ones.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.finetuning.domain.documents import Chunk
from services.finetuning.domain.facts import Fact, evidence_in, holds
from services.layout.names import names
from services.layout.nearest import question_names
from services.layout.words import sentences

_LONGEST_SENTENCE: Final = 320
_MOST_OF_A_SENTENCE: Final = 4
# Headings, rows, quotations and lines that name what they say: tables are read elsewhere.
_NO_SENTENCE: Final = re.compile(r"[#|>`]|(?:[-*•] )?[\w /()'&-]{1,50}: ")

_NUMBER: Final = r"(?:\d[\d.,]*\d|\d|(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty)\b)"
# A noun that is counted, perhaps after one other word ("working days", "million euros"): no word of grammar, no verb.
_UNIT: Final = (
    r"(?!(?:of|to|and|or|in|on|at|by|for|from|up|a|an|the|is|are|was|were|has|have|weighs?|costs?|runs?|takes?|lasts?|"
    r"supports?|follows?|measures?|may|must|can|will)\b)(?:(?:[a-z]+(?<!s) )?[a-z]+s\b|[a-z]{2,})"
)
_MONTH: Final = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NAME: Final = r"(?:[A-Z][a-zà-žäöüß'’-]+(?:\s+[A-Z]\.)?(?:\s+[A-Z][a-zà-žäöüß'’-]+){1,2})"
_PLACED: Final = "room|extension|grade|rule|article|code|table|version|building|floor"

# What can be asked for, and the words that stand in its place; {unit} and {noun} are taken from the sentence.
_VALUES: Final = (
    (re.compile(rf"\b\d{{1,2}} {_MONTH}(?: \d{{4}})?\b"), "which date"),
    (re.compile(rf"\b{_MONTH} \d{{4}}\b"), "which month"),
    (re.compile(r"(?<![\d:])(?:[01]?\d|2[0-3]):[0-5]\d(?![:\d])"), "what time"),
    (re.compile(rf"\b(?P<noun>{_PLACED}) (?P<value>[A-Z]{{0,4}}-?\d[\w-]*)\b"), "which number"),
    (re.compile(rf"(?<![\w.,-]){_NUMBER}(?:\s?%| per ?cent\b)"), "how many per cent"),
    (re.compile(rf"(?<![\w.,-]){_NUMBER} (?P<unit>{_UNIT})"), "how many {unit}"),
    (re.compile(rf"\b(?:by|is|with|to|from|of|and|tell|ask|calls?) (?P<value>{_NAME})(?=[.,;]|$)"), "whom"),
    (re.compile(r"\b(?:in|since|until|from) (?P<value>(?:19|20)\d{2})\b"), "which year"),
)
_OPENS_WITH_NAME: Final = re.compile(rf"^(?P<value>{_NAME}) (?=[a-z]+s\b|is\b|was\b|has\b)")

_GOES_ON: Final = r"(?:runs|is|was|joined|has|costs|weighs|lasts|takes)\b"
_PARTS: Final = re.compile(
    rf",\s+(?=(?:the|its|his|her|their|it|he|she|they)\b)|\s+and\s+(?=(?:its|it|{_GOES_ON})\b)|;\s+"
)
_VERB_FIRST: Final = re.compile(rf"^{_GOES_ON}")
_SUBJECT: Final = re.compile(
    r"^(?!(?:During|In|At|On|From|After|Before|Within|For|If|When|Where|Until|Since|Once|With|Without|Up|To|Whoever|There)\b)"
    r"(?P<subject>[^.;:,]{2,80}?)\s+(?:is|are|was|were|has|have|had|costs?|weighs?|lasts?|takes?|holds?|runs?|works?|must|may|"
    r"can|will|stands?|covers?|measures?|meets?|lies|brings?|moves?|builds?|pays?|sends?|earns?)\b"
)
_PRONOUN: Final = re.compile(r"^(?:It|He|She|They|it|he|she|they)\b")

# Who does what to what is done: the question that people ask is seldom passive.
_LED: Final = {
    "led": "leads", "managed": "manages", "run": "runs", "kept": "keeps", "owned": "owns", "designed": "designed",
    "built": "built", "written": "wrote", "given": "gives", "approved": "approves", "headed": "heads", "decided": "decides",
}  # fmt: skip
_BY: Final = re.compile(
    rf"^(?P<subject>(?:(?! and )[^,;:]){{2,80}}?) (?:is|are|was|were) (?P<verb>{'|'.join(_LED)}) by (?P<value>{_NAME})"
)
_HAS: Final = re.compile(
    r"^(?:The|Its|the|its) (?P<noun>[a-z][a-z -]{1,40}?)(?: of (?P<owner>[^,;.]{2,60}?))? "
    r"(?P<be>is|are) (?P<at>(?:in|at) )?(?P<value>[A-Z\d“\"](?:[^,;]|(?<=\d),(?=\d))*|(?:room|extension) [A-Z]?\d+|"
    r"(?:two|three|four|five|six|seven|eight|nine|ten|twelve)\b[^,;]*)$"
)
_VERBS: Final = (
    (
        re.compile(rf"^(?P<subject>.{{2,80}}?) costs? (?P<value>{_NUMBER} {_UNIT})"),
        ("What does {s} cost?", "How much is {s}?", "What is the price of {s}?"),
    ),
    (
        re.compile(rf"^(?P<subject>.{{2,80}}?) weighs? (?P<value>{_NUMBER} {_UNIT})"),
        ("What does {s} weigh?", "How heavy is {s}?", "What is the weight of {s}?"),
    ),
    (
        re.compile(rf"^(?P<subject>.{{2,80}}?) (?:lasts?|takes?|runs? for) (?P<value>{_NUMBER} {_UNIT})"),
        ("How long does {s} last?", "How much time does {s} take?", "What is the duration of {s}?"),
    ),
    (
        re.compile(rf"^(?P<subject>.{{2,80}}?) (?:has|have) a budget of (?P<value>{_NUMBER} {_UNIT})"),
        ("What is the budget of {s}?", "How much money does {s} have?", "What may {s} cost?"),
    ),
    (
        re.compile(r"^(?P<subject>.{2,80}?) joined in (?P<value>(?:19|20)\d{2})"),
        ("In which year did {s} join?", "Since when is {s} there?", "When did {s} begin?"),
    ),
    (
        re.compile(
            rf"^(?P<value>{_NAME}) (?P<verb>leads|manages|runs|keeps|owns) (?P<subject>[^,;]{{2,60}}?)(?= and |$)"
        ),
        ("Who {verb} {s}?", "Whose task is {s}?", "Who is responsible for {s}?"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Questions with their answer, and the sentence that says it by itself."""

    phrasings: tuple[str, ...]
    answer: str
    statement: str


def sentence_facts(chunk: Chunk) -> Iterator[Fact]:
    """Yield the facts of the sentences of a chunk; of each the questions that fit it best come first."""
    before = chunk.topic if chunk.topic == chunk.document.title and names(chunk.topic) else ""
    for sentence in sentences(chunk.text):
        if _NO_SENTENCE.match(sentence.text) or len(sentence.text) > _LONGEST_SENTENCE:
            continue
        text = " ".join(sentence.text.split())
        subject = _subject_of(text)
        found: dict[str, _Asked] = {}
        for part in _parts_of(text, subject, before):
            for asked in _asked(part, chunk):
                known = next((answer for answer in found if holds(answer, asked.answer)), asked.answer)
                if known == asked.answer and known in found:
                    # The first pattern fits it best; further questions ask for the same.
                    more = (*found[known].phrasings, *asked.phrasings)
                    found[known] = replace(found[known], phrasings=more)
                elif known == asked.answer:
                    found[known] = asked
        for asked in list(found.values())[:_MOST_OF_A_SENTENCE]:
            evidence = evidence_in(chunk, sentence.start, sentence.end)
            yield Fact(asked.phrasings, asked.answer, evidence, asked.statement, sentence.text, "pattern")
        before = subject if names(subject) else before


def _subject_of(text: str) -> str:
    """Return the subject of a sentence; empty when it is a pronoun or hard to tell."""
    match = _SUBJECT.match(text)
    return match["subject"] if match and not _PRONOUN.match(text) else ""


def _parts_of(text: str, subject: str, before: str) -> Iterator[str]:
    """Yield the clauses of a sentence that can be asked about by themselves, pronouns replaced by what they stand for."""
    for piece in _PARTS.split(text.rstrip(".!")):
        part = piece.strip()
        if not part:
            continue
        meant = subject or before
        if _PRONOUN.match(part) or _VERB_FIRST.match(part):
            if not meant:
                continue
            # "… and runs for 20 months": the subject stands before the "and".
            part = _PRONOUN.sub(lambda _, meant=meant: meant, part) if _PRONOUN.match(part) else f"{meant} {part}"
        yield part


def _asked(part: str, chunk: Chunk) -> Iterator[_Asked]:
    yield from _by_pattern(part, chunk.topic, chunk.document.title or chunk.topic)
    yield from _in_place(part, chunk.topic)


def _by_pattern(part: str, topic: str, thing: str) -> Iterator[_Asked]:
    said = _sentence(part, topic)
    if match := _BY.match(part):
        subject, verb = _inside(match["subject"]), match["verb"]
        asked = [
            f"Who {_LED[verb]} {subject}?",
            f"By whom is {subject} {verb}?",
            f"What is the name of whoever {_LED[verb]} {subject}?",
        ]
        yield _Asked(_about(asked, topic), match["value"], said)
        return
    for pattern, templates in _VERBS:
        if match := pattern.match(part):
            words = {"s": _inside(match["subject"]), "verb": match.groupdict().get("verb", "")}
            yield _Asked(_about([one.format(**words) for one in templates], topic), match["value"], said)
            return
    if match := _HAS.match(part):
        noun, be, owner = match["noun"], match["be"], _inside(match["owner"] or thing)
        if noun.casefold() in owner.casefold():
            return
        where = "Where" if match["at"] else "What"
        questions: tuple[str, ...] = (
            f"{where} {be} the {noun} of {owner}?",
            f"{owner}: {where.lower()} {be} the {noun}?",
            f"Which {noun} {'do' if be == 'are' else 'does'} {owner} have?",
        )
        statement = f"The {noun} of {owner} {be} {match['at'] or ''}{match['value']}."
        yield _Asked(questions[: 2 if match["at"] else 3], match["value"], statement)


def _in_place(part: str, topic: str) -> Iterator[_Asked]:
    """Yield questions with the question word where the answer stands."""
    # A number in the name of what is spoken of is no answer.
    taken = [match.span() for match in re.finditer(re.escape(topic), part)] if topic else []
    match = _OPENS_WITH_NAME.match(part)
    if match and not question_names(match["value"]) & question_names(topic):
        rest = part[match.end() :]
        yield _Asked(_about([f"Who {rest}?", f"By name, who {rest}?"], topic), match["value"], _sentence(part, topic))
        taken.append(match.span("value"))
    for pattern, word in _VALUES:
        for match in pattern.finditer(part):
            groups = match.groupdict()
            span = match.span("value") if "value" in groups else match.span()
            if any(span[0] < end and start < span[1] for start, end in taken) or _is_named(part, span[0]):
                continue
            taken.append(span)
            before, after = part[: span[0]], part[span[1] :]
            asked = f"{before}{word.format(**groups)}{after}?"
            questions = _about([asked[0].upper() + asked[1:]], topic)
            # Asked about by its name even where the sentence names something: three ways to ask for one thing.
            more = (f"{topic}: which words are missing in “{before}___{after}”?",)
            first = f"Concerning {topic}, {_inside(asked)}"
            yield _Asked(
                (*questions, *(() if first in questions else (first,)), *more),
                part[slice(*span)],
                _sentence(part, topic),
            )


def _is_named(part: str, start: int) -> bool:
    """Whether a name stands right before a number, which is then a part of it: "the Rill 200"."""
    before = part[:start].rsplit(maxsplit=1)[-1:] if part[start].isdigit() else []
    return any(word[0].isupper() and word not in _SMALL for word in before)


def _about(questions: Sequence[str], topic: str) -> tuple[str, ...]:
    """Return questions that say what they are about: those that name nothing are put under the topic."""
    return tuple(
        question if names(question) or not topic else f"Concerning {topic}, {_inside(question)}"
        for question in questions
    )


def _sentence(part: str, topic: str) -> str:
    """Return a clause as a sentence that says what it is about."""
    said = f"{part[0].upper()}{part[1:]}."
    return said if question_names(part) & question_names(topic) or not topic else f"{topic}: {_inside(said)}"


_SMALL: Final = frozenset(
    {"The", "A", "An", "All", "Every", "Each", "Its", "Who", "What", "Which", "Where", "How", "By", "Whose", "From", "Up",
     "Within", "At", "In", "On", "Nobody", "Everyone", "There"}
)  # fmt: skip


def _inside(subject: str) -> str:
    """Return words as they stand inside a sentence: an article or question word that opened one becomes small."""
    first, _, rest = subject.partition(" ")
    return f"{first.lower()} {rest}" if first in _SMALL and rest else subject
