"""Rows of every kind, as hypothesis draws them."""

from hypothesis import strategies as st

from services.finetuning.domain.rows import (
    ChatRow,
    DocumentSource,
    FeedbackSource,
    FileSource,
    KtoRow,
    Origin,
    PreferenceRow,
    PromptRow,
    TextRow,
    Turn,
)

# No NUL, no half pairs, none of the marks that chat templates use.
texts = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00<|"), min_size=1, max_size=60)
    .map(lambda text: text.strip())
    .filter(bool)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
_KNOWN = {
    "messages", "tools", "text", "label", "input", "preferred_output", "non_preferred_output", "brain", "role", "content",
    "weight", "tool_calls", "tool_call_id", "sources", "cluster", "split", "rater",
}  # fmt: skip
extras = st.dictionaries(texts.filter(lambda key: key not in _KNOWN), json_values, max_size=2)
sources = (
    st.builds(DocumentSource, texts, st.integers(1, 9))
    | st.builds(FeedbackSource, texts)
    | st.builds(FileSource, texts, st.integers(1, 10**6))
)
origins = st.builds(
    Origin,
    st.lists(sources, max_size=3).map(tuple),
    st.just("") | texts,
    st.just("") | texts,
    st.just("") | texts,
    extras,
)
tools = st.lists(
    st.builds(lambda name: {"type": "function", "function": {"name": name, "parameters": {}}}, texts), max_size=2
).map(tuple)


@st.composite
def conversations(draw: st.DrawFn, *, answered: bool) -> tuple[Turn, ...]:
    """Turns that begin with the user, perhaps after the system, and take turns."""
    turns = [Turn("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns.append(Turn("user", draw(texts), extra=draw(extras)))
        turns.append(Turn("assistant", draw(texts), draw(st.sampled_from([None, 0, 1])), draw(extras)))
    if draw(st.booleans()):
        call = {"id": "call_1", "type": "function", "function": {"name": draw(texts), "arguments": "{}"}}
        turns.append(Turn("user", draw(texts)))
        turns.append(Turn("assistant", "", extra={"tool_calls": [call]}))
        turns.append(Turn("tool", draw(texts), extra={"tool_call_id": "call_1"}))
        turns.append(Turn("assistant", draw(texts)))
    turns.append(Turn("user", draw(texts)))
    return (*turns, Turn("assistant", draw(texts))) if answered else tuple(turns)


text_rows = st.builds(TextRow, texts, origins, extras)
chat_rows = st.builds(ChatRow, conversations(answered=True), tools, origins, extras)
kto_rows = st.builds(KtoRow, conversations(answered=True), st.booleans(), tools, origins, extras)
prompt_rows = st.builds(PromptRow, conversations(answered=False), tools, origins, extras)
preference_rows = st.builds(
    PreferenceRow,
    conversations(answered=False),
    texts.map(lambda text: (Turn("assistant", f"+{text}"),)),
    texts.map(lambda text: (Turn("assistant", f"-{text}"),)),
    tools,
    origins,
    extras,
    extras,
)
rows = text_rows | chat_rows | kto_rows | prompt_rows | preference_rows
