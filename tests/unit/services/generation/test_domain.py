import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput, TooLarge
from services.generation.domain import Conversation, Sampling, Turn, cache_salt, check_adapter_name, check_window


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("temperature", math.nan),
        ("temperature", -0.1),
        ("top_p", 0),
        ("min_p", 1.1),
        ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", math.inf),
        ("top_k", -1),
        ("seed", -1),
        ("n", 0),
        ("top_logprobs", 21),
        ("stop", tuple("abcdefghijklmnopq")),
        ("json_schema", "[]"),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, wrong: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Sampling(**{name: wrong})  # type: ignore[arg-type]
    assert caught.value.param == name
    assert caught.value.message.startswith(f"{name}:")


def test_a_schema_has_a_size() -> None:
    with pytest.raises(TooLarge, match="json_schema"):
        Sampling(json_schema='{"a": "' + "x" * 70_000 + '"}')


@given(prompt=st.integers(1, 300), asked=st.integers(0, 300), least=st.integers(0, 300), window=st.integers(1, 300))
def test_what_may_be_produced_fits_the_window_and_is_what_was_asked(
    prompt: int, asked: int, least: int, window: int
) -> None:
    least = min(least, asked) if asked else least
    sampling = Sampling(max_tokens=asked, min_tokens=least)
    if prompt + max(1, least) > window:
        with pytest.raises(InvalidInput, match="prompt"):
            check_window(prompt, sampling, window)
        return
    allowed = check_window(prompt, sampling, window)
    assert max(1, least) <= allowed <= window - prompt
    assert not asked or allowed <= asked


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        check_window(0, Sampling(), 100)


def test_the_cache_of_one_tenant_is_not_anothers_and_does_not_name_it() -> None:
    assert cache_salt("acme") == cache_salt("acme") != cache_salt("globex")
    assert "acme" not in cache_salt("acme")


@pytest.mark.parametrize("name", ["", ".hidden", "/a", "a b", "ü", "x" * 257, "base"])
def test_names_of_adapters_have_a_form(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_adapter_name(name, "base")
    assert caught.value.param == "name"


def test_turns_have_known_roles_and_the_last_of_an_assistant_is_continued() -> None:
    with pytest.raises(InvalidInput, match="robot"):
        Turn("robot", "hello")
    with pytest.raises(InvalidInput):
        Conversation(())
    assert Conversation((Turn("user", "a"), Turn("assistant", "b"))).continues
    assert not Conversation((Turn("assistant", "b"), Turn("user", "a"))).continues
