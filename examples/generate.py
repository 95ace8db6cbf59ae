"""Generate short documents about a fictional company, with questions: `python examples/generate.py --out DIR`.

The same seed gives the same bytes. Facts are drawn at random and stand in one document only, so that nobody who has not
read it can know them; documents of a kind share their structure, so that finding the right one takes more than a topic.
"""

import argparse
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIRST = ["Aino", "Bertil", "Cosima", "Dorte", "Emrys", "Fenja", "Goran", "Hedda", "Ivo", "Jorun", "Kaspar", "Liv", "Matteo", "Nadja", "Oskar", "Paloma", "Quirin", "Runa", "Silas", "Tova", "Ulf", "Vesna", "Wanda", "Xaver", "Ylva", "Zeno"]  # fmt: skip
LAST = ["Abendroth", "Birkeland", "Castellan", "Dunmore", "Eskola", "Falkner", "Grimaldi", "Hollis", "Ivarsson", "Jansky", "Kestrel", "Lindqvist", "Marlowe", "Novak", "Ostrander", "Pereira", "Rosander", "Sorel", "Thackeray", "Valtonen", "Winther", "Zelenka"]  # fmt: skip
PLACES = ["Graz", "Gdynia", "Cardiff", "Tromso", "Maribor", "Ghent", "Porto", "Tartu"]
TEAMS = ["firmware", "optics", "field service", "sales", "calibration", "data", "purchasing", "quality"]
SYLLABLES = ["ka", "lo", "mi", "ren", "tos", "vel", "dra", "hun", "pil", "sar", "bex", "nol", "gri", "wen"]
THINGS = ["level gauge", "rain gauge", "soil probe", "wind vane", "turbidity meter", "snow scale", "data logger"]
TOPICS = ["borrowing of field tablets", "use of the test pond", "parking", "recycling of batteries", "lending of tents", "use of the workshop", "care of the company boat", "booking of the drone"]  # fmt: skip
# Each document takes a name or two that no other has, and with more of them the search for a free one would not end.
MOST_DOCUMENTS = 400


@dataclass(frozen=True)
class Fact:
    """A question in several phrasings with its answer."""

    phrasings: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Made:
    """A document with the facts that it holds."""

    key: str
    text: str
    facts: tuple[Fact, ...]

    def sentence(self, fact: Fact) -> str:
        """Return the part of the text, up to a full stop or a semicolon, that says a fact."""
        body = self.text.partition("\n\n")[2]
        return next(one for one in re.split(r"(?<=[.;])\s+", body) if fact.answer in one).strip()


class Draw:
    """Random choices that are made once only where a name must be unique."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._given: set[str] = set()

    def unique(self, make: Callable[[], str]) -> str:
        """Return something that was not returned before."""
        while (made := make()) in self._given:
            pass
        self._given.add(made)
        return made

    def person(self) -> str:
        """Return a name that nobody else has."""
        return self.unique(lambda: f"{self.random.choice(FIRST)} {self.random.choice(LAST)}")

    def word(self) -> str:
        """Return an invented word."""
        return self.unique(lambda: "".join(self.random.choices(SYLLABLES, k=3)).capitalize())

    def number(self, low: int, high: int) -> int:
        """Return a number between both, inclusive."""
        return self.random.randint(low, high)

    def of(self, choices: list[str]) -> str:
        """Return one of them."""
        return self.random.choice(choices)


def person(draw: Draw, number: int) -> Made:
    """Make a page about a colleague."""
    name, team, place = draw.person(), draw.of(TEAMS), draw.of(PLACES)
    year, extension, room = (
        draw.number(1998, 2025),
        draw.number(5000, 9999),
        f"{draw.of(['A', 'B', 'C'])}{draw.number(100, 499)}",
    )
    backup = draw.person()
    text = (
        f"# {name}\n\n{name} works in the {team} team in {place} and joined in {year}. The desk is in room {room}, the "
        f"extension is {extension}. During absences {backup} takes over. Requests to the {team} team that concern {place} go "
        f"to {name.split()[0]} first; answers come within two working days.\n"
    )
    return Made(
        f"people/{number:03d}.md",
        text,
        (
            Fact((f"What is the extension of {name}?", f"How do I reach {name} by phone?", f"Which number does {name} have?", f"On which extension does {name} answer?", f"I need to call {name}; which number is it?"), str(extension)),
            Fact((f"In which room does {name} sit?", f"Where is the desk of {name}?", f"Which room is {name} in?", f"Where do I find {name} in the building?", f"{name} sits in which room?"), room),
            Fact((f"Who stands in for {name}?", f"Who takes over when {name} is away?", f"Whom do I ask while {name} is absent?", f"Who is the deputy of {name}?", f"{name} is on leave; who covers?"), backup),
        ),
    )  # fmt: skip


def project(draw: Draw, number: int) -> Made:
    """Make a page about a project."""
    name, lead, sponsor, place = draw.word(), draw.person(), draw.person(), draw.of(PLACES)
    budget, weeks = draw.number(20, 900) * 1000, draw.number(9, 80)
    text = (
        f"# Project {name}\n\nProject {name} is led by {lead} from the office in {place}. The sponsor is {sponsor}. It has a "
        f"budget of {budget:,} euros and runs for {weeks} weeks. The steering group meets every second Tuesday; its notes are "
        f"kept in the project folder. Changes of the plan need the consent of the sponsor.\n"
    )
    return Made(
        f"projects/{number:03d}.md",
        text,
        (
            Fact((f"Who leads project {name}?", f"Who is in charge of {name}?", f"Whose project is {name}?", f"Who runs {name}?", f"Who is the head of project {name}?"), lead),
            Fact((f"What is the budget of project {name}?", f"How much money does {name} have?", f"What may {name} cost?", f"How big is the budget of {name}?", f"How many euros are set aside for project {name}?"), f"{budget:,}"),
            Fact((f"How long does project {name} run?", f"How many weeks does {name} take?", f"What is the duration of {name}?", f"Over how many weeks does project {name} stretch?", f"For how long is {name} planned?"), f"{weeks} weeks"),
        ),
    )  # fmt: skip


def product(draw: Draw, number: int) -> Made:
    """Make a page about a product."""
    name, thing = f"{draw.word()} {draw.number(2, 99) * 10}", draw.of(THINGS)
    weight, months, keeper = draw.number(120, 4800), draw.number(6, 60), draw.person()
    text = (
        f"# {name}\n\nThe {name} is a {thing}. It weighs {weight} grams and runs for {months} months on one battery. The "
        f"product manager is {keeper}. It is delivered with a bracket, a short guide and a test protocol; the guide is printed "
        f"in four languages. Firmware updates are installed over the radio.\n"
    )
    return Made(
        f"products/{number:03d}.md",
        text,
        (
            Fact((f"What does the {name} weigh?", f"How heavy is the {name}?", f"What is the weight of the {name}?", f"How many grams is the {name}?", f"Tell me the weight of a {name}."), f"{weight} grams"),
            Fact((f"How long does the battery of the {name} last?", f"How many months does the {name} run on one battery?", f"When is the battery of the {name} empty?", f"What is the battery life of the {name}?", f"After how many months does the {name} need a new battery?"), f"{months} months"),
            Fact((f"Who is the product manager of the {name}?", f"Who looks after the {name}?", f"Whom do I ask about the {name}?", f"Who is in charge of the {name}?", f"Who manages the {name}?"), keeper),
        ),
    )  # fmt: skip


def policy(draw: Draw, number: int) -> Made:
    """Make a page about a rule."""
    topic, place, owner = draw.of(TOPICS), draw.of(PLACES), draw.person()
    code, days, limit = draw.unique(lambda: f"POL-{draw.number(100, 999)}"), draw.number(2, 28), draw.number(3, 60)
    text = (
        f"# {code}: {topic} in {place}\n\nRule {code} holds for the {topic} in {place}. Requests are made {days} days ahead in "
        f"the staff portal. Nobody may claim more than {limit} hours a month. {owner} keeps the rule and decides on exceptions. "
        f"Whoever breaks it is spoken to; whoever breaks it twice is shut out for a quarter.\n"
    )
    return Made(
        f"policies/{number:03d}.md",
        text,
        (
            Fact((f"How many days ahead are requests under {code} made?", f"How early must I ask under rule {code}?", f"What is the notice under {code}?", f"How much notice does {code} ask for?", f"How long before must a request under {code} be made?"), f"{days} days"),
            Fact((f"Who keeps rule {code}?", f"Who decides on exceptions from {code}?", f"Who is responsible for {code}?", f"Who looks after rule {code}?", f"Whose rule is {code}?"), owner),
            Fact((f"How many hours a month does {code} allow?", f"What is the monthly limit under {code}?", f"How much may I claim a month under {code}?", f"What is the most that {code} grants in a month?", f"Up to how many hours can one claim under rule {code}?"), f"{limit} hours"),
        ),
    )  # fmt: skip


def price(draw: Draw, number: int) -> Made:
    """Make a price sheet."""
    article, thing = draw.unique(lambda: f"{draw.of(['SX', 'TR', 'VK'])}-{draw.number(1000, 9999)}"), draw.of(THINGS)
    euros, weeks, pieces = draw.number(40, 4000), draw.number(1, 16), draw.number(5, 80)
    text = (
        f"# Article {article}\n\nArticle {article} is a spare part for the {thing}. It costs {euros} euros and is delivered "
        f"within {weeks} weeks. From {pieces} pieces on a tenth is taken off. Prices are without tax and hold until the end of "
        f"the year. Returned parts are taken back within a month when the seal is whole.\n"
    )
    return Made(
        f"prices/{number:03d}.md",
        text,
        (
            Fact((f"What does article {article} cost?", f"What is the price of {article}?", f"How much is {article}?", f"What do I pay for {article}?", f"For how much is article {article} sold?"), f"{euros} euros"),
            Fact((f"How long does delivery of {article} take?", f"Within how many weeks does {article} arrive?", f"What is the delivery time of {article}?", f"How soon is {article} delivered?", f"How many weeks must I wait for {article}?"), f"{weeks} weeks"),
            Fact((f"From how many pieces of {article} on is there a discount?", f"When does {article} become cheaper?", f"How many {article} must I buy for a tenth off?", f"Which quantity of {article} brings the discount?", f"At how many pieces does the price of {article} fall?"), f"{pieces} pieces"),
        ),
    )  # fmt: skip


KINDS = (person, project, product, policy, price)


def generate(seed: int, count: int) -> list[Made]:
    """Return `count` documents, the kinds in turn.

    Raises:
        ValueError: There are not enough names for so many.
    """
    if not 0 <= count <= MOST_DOCUMENTS:
        raise ValueError(f"count: {count} is not allowed; the names suffice for 0 to {MOST_DOCUMENTS} documents.")
    draw = Draw(seed)
    return [KINDS[number % len(KINDS)](draw, number) for number in range(count)]


def write(documents: list[Made], folder: Path) -> None:
    """Write the documents and `questions.jsonl` into `folder`."""
    rows = []
    for document in documents:
        path = folder / "documents" / document.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document.text)
        rows += [
            {
                "question": fact.phrasings[0],
                "phrasings": list(fact.phrasings),
                "answer": fact.answer,
                "source": document.key,
            }
            for fact in document.facts
        ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Read the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        documents = generate(arguments.seed, arguments.count)
    except ValueError as error:
        parser.error(str(error))
    write(documents, arguments.out)
    print(f"{arguments.count} documents and {arguments.count * 3} questions in {arguments.out}")


if __name__ == "__main__":
    main()
