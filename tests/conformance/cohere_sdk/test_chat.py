import cohere
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]


def test_a_chat_is_answered(client: cohere.ClientV2, model: str) -> None:
    answer = client.chat(model=model, messages=HELLO, max_tokens=16, temperature=0)
    assert answer.id
    assert answer.finish_reason in {"COMPLETE", "MAX_TOKENS"}
    assert answer.message.role == "assistant"
    assert answer.message.content[0].type == "text"
    assert answer.message.content[0].text
    assert answer.message.citations is None
    assert answer.usage.tokens.input_tokens > 0
    assert answer.usage.billed_units.output_tokens == answer.usage.tokens.output_tokens > 0


def test_a_stream_says_the_same_as_a_whole_answer(client: cohere.ClientV2, model: str) -> None:
    whole = client.chat(model=model, messages=HELLO, max_tokens=16, temperature=0, seed=7)
    events = list(client.chat_stream(model=model, messages=HELLO, max_tokens=16, temperature=0, seed=7))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message-start", "content-start"]
    assert kinds[-2:] == ["content-end", "message-end"]
    assert set(kinds[2:-2]) == {"content-delta"}
    text = "".join(event.delta.message.content.text for event in events if event.type == "content-delta")
    assert text == whole.message.content[0].text
    assert events[-1].delta.finish_reason == whole.finish_reason
    assert events[-1].delta.usage.billed_units.output_tokens == whole.usage.billed_units.output_tokens


def test_parts_and_system_turns_are_read(client: cohere.ClientV2, model: str) -> None:
    answer = client.chat(
        model=model,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Say hello."}]},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Again."},
        ],
        max_tokens=8,
        temperature=0,
        stop_sequences=[],
        k=0,
        p=0.75,
    )
    assert answer.message.content[0].text


def test_a_token_limit_is_told(client: cohere.ClientV2, model: str) -> None:
    answer = client.chat(
        model=model, messages=[{"role": "user", "content": "Tell a long story of a fox."}], max_tokens=3, temperature=0
    )
    assert answer.finish_reason == "MAX_TOKENS"
    assert answer.usage.tokens.output_tokens == 3


def test_the_base_address_may_end_in_v1(url: str, key: str, model: str) -> None:
    client = cohere.ClientV2(api_key=key, base_url=f"{url}/v1", timeout=180)
    assert client.chat(model=model, messages=HELLO, max_tokens=4, temperature=0).message.content[0].text


def test_tools_are_refused_by_name(client: cohere.ClientV2, model: str) -> None:
    with pytest.raises(cohere.BadRequestError) as caught:
        client.chat(
            model=model,
            messages=HELLO,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        )
    assert "tools" in caught.value.body["message"]
