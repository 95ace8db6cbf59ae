"""The tokens of a model folder: counted as served, and labelled where the model speaks."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.chassis.errors import InvalidInput
from services.chassis.models.folder import template_hash
from services.finetuning.backends.tokenizer import FolderTokens
from services.finetuning.domain.encoding import Encoded
from services.finetuning.domain.rows import Turn
from services.layout.turns import Message
from tests.unit.services.finetuning.small_model import FORGETFUL, STRICT, write_model

TURNS = [
    Turn("user", "Who leads Osprey?"),
    Turn("assistant", "Mirela Costin."),
    Turn("user", "And Heron? Ünïcødé 🦤"),
    Turn("assistant", "Yusuf Demirel leads it 🦤."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokens(folder: Path) -> FolderTokens:
    return FolderTokens(folder)


def learnt(tokens: FolderTokens, encoded: Encoded) -> str:
    ids = [token for token, label in zip(encoded.ids, encoded.labels, strict=True) if label]
    return str(tokens._tokenizer.decode(ids))


def test_what_the_assistant_says_is_learnt_with_the_end_of_its_turn(tokens: FolderTokens) -> None:
    encoded = tokens.encode_conversation(TURNS)
    assert learnt(tokens, encoded) == "Mirela Costin.<|im_end|>\nYusuf Demirel leads it 🦤.<|im_end|>\n"
    assert str(tokens._tokenizer.decode(encoded.ids)).startswith(
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n"
    )
    only_last = [TURNS[0], Turn("assistant", "Mirela Costin.", 0), *TURNS[2:]]
    assert learnt(tokens, tokens.encode_conversation(only_last)) == "Yusuf Demirel leads it 🦤.<|im_end|>\n"
    assert not any(tokens.encode_conversation(TURNS[:1]).labels)


def test_tokens_are_counted_as_they_are_served(tokens: FolderTokens) -> None:
    asked = [Message(turn.role, turn.content) for turn in TURNS[:3]]
    encoded = tokens.encode_conversation(TURNS)
    # The prompt of the last answer is what stands before its first label.
    assert tokens.count_conversation(asked) == len(encoded.ids) - learnt_last(encoded)
    assert tokens.count(["", "May", "May May"]) == [0, *(len(tokens._tokenizer.encode(t)) for t in ("May", "May May"))]
    assert tokens.count([]) == []


def learnt_last(encoded: Encoded) -> int:
    count = 0
    for label in reversed(encoded.labels):
        if not label:
            break
        count += 1
    return count


def test_the_end_of_a_turn_is_known(tokens: FolderTokens) -> None:
    ends = {tokens._tokenizer.decode([token]) for token in tokens.end_of_turn}
    assert ends == {"<|im_end|>"}
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= tokens.special_tokens


def test_raw_text_is_learnt_to_its_end(tokens: FolderTokens) -> None:
    encoded = tokens.encode_text("The pond opens in May.")
    assert learnt(tokens, encoded) == "The pond opens in May.<|im_end|>"


def test_the_hash_is_that_of_the_folder(folder: Path, tokens: FolderTokens) -> None:
    assert tokens.template_hash == template_hash(folder) != ""


def test_a_template_that_refuses_says_so(tmp_path: Path) -> None:
    tokens = FolderTokens(write_model(tmp_path, STRICT, end="</s>"))
    assert learnt(tokens, tokens.encode_conversation(TURNS)) == "Mirela Costin.</s>Yusuf Demirel leads it 🦤.</s>"
    with pytest.raises(InvalidInput, match="System turns are not supported"):
        tokens.encode_conversation([Turn("system", "Be brief."), *TURNS])


def test_a_template_that_rewrites_earlier_answers_is_not_trained_on(tmp_path: Path) -> None:
    tokens = FolderTokens(write_model(tmp_path, FORGETFUL))
    assert learnt(tokens, tokens.encode_conversation(TURNS[:2])) == "Mirela Costin.<|im_end|>\n"
    with pytest.raises(InvalidInput, match=r"messages\[1\]: the chat template writes this turn otherwise"):
        tokens.encode_conversation(TURNS)


def test_a_folder_without_template_or_tokenizer_is_named(tmp_path: Path) -> None:
    tokens = FolderTokens(write_model(tmp_path / "bare", ""))
    assert tokens.template_hash == ""
    with pytest.raises(InvalidInput, match="no chat template"):
        tokens.encode_conversation(TURNS)
    with pytest.raises(InvalidInput, match=r"'empty' holds no tokenizer\.json"):
        (tmp_path / "empty").mkdir()
        FolderTokens(tmp_path / "empty")


def test_many_threads_may_count_at_once(tokens: FolderTokens) -> None:
    turns = [Message("user", "Who leads Osprey? " * 50)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: (tokens.count_conversation(turns), tokens.count(["May"] * 20)), range(200)))
    assert len({(count, *counts) for count, counts in found}) == 1


def test_torch_stays_out(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from services.finetuning.backends.tokenizer import FolderTokens; "
        f"FolderTokens(Path({str(folder)!r})).count(['a']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
