"""Where in the passages an answer is looked for."""

from services.layout.nearest import nearest, neighbourhoods, question_names, ranked
from services.layout.turns import Passage


def test_places_are_exact_and_short_enough_to_be_read() -> None:
    text = "One sentence stands here. " + "word " * 150 + "end. " + "Another one. A third one."
    places = neighbourhoods([Passage("doc", 1, 50, 50 + len(text), text)])
    assert len(places) == 4
    assert all(text[place.start : place.end] == place.text for place in places)
    assert [place.text for place in places][-1] == "Another one. A third one."


def test_a_quote_begins_below_the_heading() -> None:
    text = "# Care\n\n## Funnel\nClean the funnel."
    place = neighbourhoods([Passage("doc", 1, 0, len(text), text)])[-1].words
    assert place.text == text[place.start : place.end] == "Clean the funnel."
    only = neighbourhoods([Passage("doc", 1, 0, 6, "# Care")])[0]
    assert only.words == only


def test_the_word_that_opens_a_question_is_no_name() -> None:
    assert question_names("Until when are the talks to end?") == frozenset()
    assert question_names("Osprey is led by whom?") == {"osprey"}


def test_of_equal_places_the_first_is_shown() -> None:
    text = "The pond opens in May. The boat is blue. Nobody may swim in the pond."
    places = [place for _, place in ranked("When does the pond open?", [Passage("d", 1, 0, len(text), text)])]
    assert nearest(places, [0.5, 0.5, 0.1]) is places[0]
    assert nearest(places, [0.2, 0.5, 0.9]) is places[2]
