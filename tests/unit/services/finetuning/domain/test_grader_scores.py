import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from services.finetuning.domain.grader_scores import Metric, StringOperation, cosine_of, similarity, string_check

TEXTS = [metric for metric in Metric if metric is not Metric.COSINE]
WORDS = st.lists(st.sampled_from(["die", "Maus", "lief", "über", "den", "Käse", "dog", "fox"]), max_size=12).map(
    " ".join
)


@pytest.mark.parametrize(
    ("operation", "text", "reference", "result"),
    [
        ("eq", "Bern", "Bern", 1), ("eq", "Bern", "bern", 0), ("ne", "Bern", "bern", 1), ("ne", "Bern", "Bern", 0),
        ("like", "It is Bern.", "Bern", 1), ("like", "It is Bern.", "bern", 0), ("like", "Bern", "It is Bern.", 0),
        ("ilike", "IT IS BERN.", "bern", 1), ("ilike", "STRASSE", "straße", 1), ("ilike", "Bern", "Basel", 0),
    ],
)  # fmt: skip
def test_a_string_check_says_yes_or_no(operation: str, text: str, reference: str, result: float) -> None:
    assert string_check(StringOperation(operation), text, reference) == result


@pytest.mark.parametrize("metric", TEXTS)
def test_the_same_text_is_most_similar(metric: Metric) -> None:
    text = "Der Käfer läuft schnell nach Hause."
    assert similarity(metric, text, text) == pytest.approx(1.0)
    assert similarity(metric, "", text) == 0.0
    assert similarity(metric, text, "") == 0.0


@pytest.mark.parametrize("metric", TEXTS)
def test_a_closer_text_is_more_similar(metric: Metric) -> None:
    reference = "the quick brown fox jumps over the lazy dog today"
    close = similarity(metric, "the quick brown fox jumps over the lazy cat today", reference)
    far = similarity(metric, "nobody knows anything of animals", reference)
    assert 0 <= far < close < 1


def test_published_values() -> None:
    """ROUGE-L of the example of Lin (2004), where beta is 1: F1 of 3 of 4 words."""
    reference = "police killed the gunman"
    assert similarity(Metric.ROUGE_L, "police kill the gunman", reference) == pytest.approx(0.75)
    assert similarity(Metric.ROUGE_L, "the gunman kill police", reference) == pytest.approx(0.5)
    assert similarity(Metric.FUZZY_MATCH, "kitten", "sitting") == pytest.approx(8 / 13)


@pytest.mark.parametrize("metric", [Metric.BLEU, Metric.GLEU])
def test_an_answer_of_one_word_can_be_right(metric: Metric) -> None:
    assert similarity(metric, "Bern", "Bern") == pytest.approx(1.0)
    assert similarity(metric, "Basel", "Bern") < 0.1


@given(WORDS, WORDS)
def test_rouge_l_is_what_rouge_score_computes(text: str, reference: str) -> None:
    class Words:
        def tokenize(self, given_text: str) -> list[str]:
            return given_text.lower().split()

    expected = RougeScorer(["rougeL"], tokenizer=Words()).score(reference, text)["rougeL"].fmeasure
    assert similarity(Metric.ROUGE_L, text, reference) == pytest.approx(expected)


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(TEXTS))
def test_every_similarity_is_from_0_to_1(text: str, reference: str, metric: Metric) -> None:
    assert -1e-9 <= similarity(metric, text, reference) <= 1 + 1e-9


def test_cosine_compares_vectors() -> None:
    assert cosine_of([0.6, 0.8], [0.6, 0.8]) == pytest.approx(1.0)
    assert cosine_of([1.0, 0.0], [0.6, 0.8]) == pytest.approx(0.6)
    assert cosine_of([1.0, 0.0], [-1.0, 0.0]) == 0.0
    with pytest.raises(ValueError, match="vectors"):
        similarity(Metric.COSINE, "a", "a")
