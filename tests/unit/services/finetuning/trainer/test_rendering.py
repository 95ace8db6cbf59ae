"""Conversations become the tokens that the engine would read, and exactly the assistant's words are learnt."""

from typing import Any

import pytest

from services.finetuning.trainer.rendering import IGNORED, Renderer, UnusableRow

ASKED = [{"role": "user", "content": "Who keeps the keys?"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "The porter keeps them."}]
LONGER = [
    {"role": "system", "content": "Answer from the handbook."},
    *ANSWERED,
    {"role": "user", "content": "And at night?"},
    {"role": "assistant", "content": "At night the guard does, as always."},
]


def learnt(tokenizer: Any, ids: list[int], labels: list[int]) -> str:
    assert len(ids) == len(labels)
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


@pytest.mark.parametrize("turns", [ASKED, ANSWERED, LONGER])
def test_tokens_are_those_of_the_models_own_template(
    renderer: Renderer, tokenizer: Any, turns: list[dict[str, Any]]
) -> None:
    assert renderer.conversation(turns).ids == tokenizer.apply_chat_template(turns, return_dict=False)
    assert renderer.whole(turns) == tokenizer.apply_chat_template(turns, return_dict=False)
    prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
    assert renderer.prompt(turns[:1]) == prompt


def test_only_what_the_assistant_says_is_learnt_with_its_end(renderer: Renderer, tokenizer: Any) -> None:
    found = renderer.conversation(LONGER)
    expected = "The porter keeps them.<|im_end|>At night the guard does, as always.<|im_end|>"
    assert learnt(tokenizer, found.ids, found.labels) == expected
    # The token that ends an answer is also the one that pads: it must be learnt all the same.
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert found.labels.count(tokenizer.eos_token_id) == 2


def test_a_turn_of_weight_0_is_read_and_not_learnt(renderer: Renderer, tokenizer: Any) -> None:
    turns: list[dict[str, Any]] = [dict(turn) for turn in LONGER]
    turns[2]["weight"] = 0
    turns[4]["weight"] = 1
    found = renderer.conversation(turns)
    assert found.ids == renderer.conversation(LONGER).ids
    assert learnt(tokenizer, found.ids, found.labels) == "At night the guard does, as always.<|im_end|>"


def test_an_answer_begins_where_the_engine_would_begin_to_write(renderer: Renderer, tokenizer: Any) -> None:
    found = renderer.answer(ASKED, ANSWERED[1:])
    prompt = renderer.prompt(ASKED)
    assert found.ids[: len(prompt)] == prompt
    assert found.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert tokenizer.decode(found.ids[len(prompt) :]) == "The porter keeps them.<|im_end|>"


def test_a_pair_shares_its_prompt(renderer: Renderer, tokenizer: Any) -> None:
    pair = renderer.pair(ASKED, ANSWERED[1:], [{"role": "assistant", "content": "Nobody."}])
    assert pair.prompt == renderer.prompt(ASKED)
    assert tokenizer.decode(pair.chosen) == "The porter keeps them.<|im_end|>"
    assert tokenizer.decode(pair.rejected) == "Nobody.<|im_end|>"


def test_a_document_ends_with_the_end_of_text(renderer: Renderer, tokenizer: Any) -> None:
    ids = renderer.document("Keys are kept by the porter.")
    assert tokenizer.decode(ids) == "Keys are kept by the porter.<|im_end|>"


def test_an_answer_in_first_place_answers_nothing(renderer: Renderer) -> None:
    found = renderer.conversation([ANSWERED[1]])
    assert set(found.labels) == {IGNORED}


def test_a_template_that_refuses_a_row_is_told_without_quoting_it(tokenizer: Any, packaged: Any) -> None:
    from transformers import AutoTokenizer

    strict = AutoTokenizer.from_pretrained(packaged)
    strict.chat_template = "{{ raise_exception('no ' + messages[0]['content']) }}"
    with pytest.raises(UnusableRow) as caught:
        Renderer(strict, frozenset({2})).conversation(ANSWERED)
    assert "keys" not in str(caught.value)


def test_a_template_that_rewrites_earlier_turns_is_refused(packaged: Any) -> None:
    from transformers import AutoTokenizer

    forgetful = AutoTokenizer.from_pretrained(packaged)
    forgetful.chat_template = (
        "{% for m in messages %}{% if loop.last or m.role == 'user' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    render = Renderer(forgetful, frozenset({2}))
    assert render.conversation(ANSWERED).labels
    with pytest.raises(UnusableRow, match="differently"):
        render.conversation(LONGER)
