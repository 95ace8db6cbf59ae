import json

import pytest
from openai import OpenAI


def test_a_chat_is_answered(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello."}], max_completion_tokens=16, temperature=0
    )
    assert answer.object == "chat.completion"
    choice = answer.choices[0]
    assert (choice.index, choice.message.role) == (0, "assistant")
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_stream_says_the_same_as_a_whole_answer(client: OpenAI, model: str) -> None:
    question = {"role": "user", "content": "Name the capital of France."}
    whole = client.chat.completions.create(model=model, messages=[question], max_tokens=16, temperature=0, seed=7)
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=[question],
            max_tokens=16,
            temperature=0,
            seed=7,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[union-attr]
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_streaming_assistant_of_the_sdk_reads_the_stream(client: OpenAI, model: str) -> None:
    # Room enough for the answer to end by itself: the SDK raises where it was cut.
    with client.chat.completions.stream(
        model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=200, temperature=0
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content


def test_several_answers_are_kept_apart(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Invent a name."}], n=2, max_tokens=8, temperature=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


def test_log_probabilities_come_with_the_tokens(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=6,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(token.logprob <= 0 for token in logprobs.content)
    assert "".join(token.token for token in logprobs.content).strip()


def test_a_stop_text_ends_the_answer(client: OpenAI, model: str) -> None:
    question = [{"role": "user", "content": "Count: one two three four five six seven."}]
    whole = client.chat.completions.create(model=model, messages=question, max_tokens=24, temperature=0, seed=1)
    words = (whole.choices[0].message.content or "").split()
    assert len(words) > 2
    short = client.chat.completions.create(
        model=model, messages=question, max_tokens=24, temperature=0, seed=1, stop=[words[2]]
    )
    assert words[2] not in (short.choices[0].message.content or "").split()
    assert short.choices[0].finish_reason == "stop"


def test_a_json_schema_binds_the_answer(client: OpenAI, model: str, scripted: bool) -> None:
    if scripted:
        pytest.skip("the scripted engine writes no free JSON; the real one is held to the schema")
    schema = {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 20}},
        "required": ["town"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Name a town as JSON."}],
        max_tokens=60,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "town", "schema": schema, "strict": True}},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"town"}
