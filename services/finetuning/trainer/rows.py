"""Rows of a training file as tokens, cut to length, with a count of what that costs."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.finetuning.domain.training import Stage, TrainingSettings
from services.finetuning.domain.training_messages import FailureCode, RowsRead
from services.finetuning.trainer.refusal import Refused
from services.finetuning.trainer.rendering import IGNORED, Renderer, UnusableRow

__all__ = ["TokenRows", "read_rows", "rows_of"]

# With more rows than this that teach nothing, something is wrong with the file: their loss of 0.0 would look like success.
_MOST_WITHOUT_LABELS: Final = 0.01
_NAMED_ROWS: Final = 5


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows as tokens.

    Attributes:
        columns: What the stage's trainer reads, by column.
        lengths: Tokens of each row, of the longer answer where there are two.
        counts: What reading them showed.
    """

    columns: Mapping[str, list[Any]]
    lengths: list[int]
    counts: RowsRead

    def __len__(self) -> int:
        return len(self.lengths)

    def chosen(self, places: Sequence[int]) -> "TokenRows":
        """Return the rows at the given places, with the counts of all."""
        columns = {name: [values[place] for place in places] for name, values in self.columns.items()}
        return TokenRows(columns, [self.lengths[place] for place in places], self.counts)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: its columns, tokens read and learnt, tokens cut off, and its length."""

    columns: Mapping[str, Any]
    tokens: int
    learnt: int
    cut: int
    length: int


def read_rows(path: Path, code: FailureCode) -> list[Mapping[str, Any]]:
    """Return the rows of a JSONL file.

    Raises:
        Refused: It cannot be read, or holds none.
    """
    rows: list[Mapping[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise Refused(code, f"Row {number} is no JSON object.")
                    rows.append(row)
    except (OSError, ValueError) as error:
        raise Refused(code, f"The rows cannot be read ({type(error).__name__}).") from error
    if not rows:
        raise Refused(code, "The file holds no rows.")
    return rows


def rows_of(
    stage: Stage,
    rows: Sequence[Mapping[str, Any]],
    renderer: Renderer,
    settings: TrainingSettings,
    *,
    code: FailureCode = FailureCode.INVALID_TRAINING_FILE,
) -> TokenRows:
    """Return rows as the stage's tokens, those left out that would teach nothing.

    Raises:
        Refused: A row cannot be used, too many teach nothing, or no answer's end would be learnt.
    """
    if stage is Stage.CONTINUED_PRETRAINING:
        return _blocks(rows, renderer, settings, code)
    kept: list[_Row] = []
    empty: list[int] = []
    read = _READERS[stage]
    tokens = cut = masked = 0
    for number, row in enumerate(rows, 1):
        try:
            one = read(row, renderer, settings)
        except UnusableRow as error:
            raise Refused(code, f"Row {number} cannot be used: {error}.") from error
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise Refused(code, f"Row {number} has not the form that {stage.value} reads.") from error
        if not one.learnt:
            empty.append(number)
            continue
        kept.append(one)
        tokens, cut, masked = tokens + one.tokens, cut + one.cut, masked + one.tokens - one.learnt
    _check_labels(empty, len(rows), code)
    lengths = [one.length for one in kept]
    counts = RowsRead(
        rows=len(kept),
        without_labels=len(empty),
        tokens=tokens,
        masked_tokens=masked,
        truncated_tokens=cut,
        longest=max(lengths),
    )
    found = TokenRows({name: [one.columns[name] for one in kept] for name in kept[0].columns}, lengths, counts)
    if stage in {Stage.SUPERVISED, Stage.RAFT}:
        _check_ends(found, renderer)
    return found


def _chat(row: Mapping[str, Any], renderer: Renderer, settings: TrainingSettings) -> _Row:
    found = renderer.conversation(row["messages"], tools=row.get("tools"))
    ids, labels = found.ids[: settings.max_length], found.labels[: settings.max_length]
    # The first token follows nothing and is never predicted.
    learnt = sum(label != IGNORED for label in labels[1:])
    return _Row({"input_ids": ids, "labels": labels}, len(ids), learnt, len(found.ids) - len(ids), len(ids))


def _preference(row: Mapping[str, Any], renderer: Renderer, settings: TrainingSettings) -> _Row:
    found = renderer.pair(row["input"]["messages"], row["preferred_output"], row["non_preferred_output"])
    room = max(0, settings.max_length - len(found.prompt))
    chosen, rejected = found.chosen[:room], found.rejected[:room]
    longer = len(found.prompt) + max(len(chosen), len(rejected))
    both = chosen if not rejected else rejected if not chosen else chosen + rejected
    learnt = len(both) if chosen and rejected and chosen != rejected else 0
    cut = len(found.chosen) + len(found.rejected) - len(chosen) - len(rejected)
    columns = {"prompt_ids": found.prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    return _Row(columns, 2 * len(found.prompt) + len(both), learnt, cut, longer)


def _judged(row: Mapping[str, Any], renderer: Renderer, settings: TrainingSettings) -> _Row:
    """Return a row of a reward model: whole conversations, since a score of half an answer means nothing."""
    turns = row["input"]["messages"]
    chosen = renderer.whole([*turns, *row["preferred_output"]])
    rejected = renderer.whole([*turns, *row["non_preferred_output"]])
    longer = max(len(chosen), len(rejected))
    tokens = len(chosen) + len(rejected)
    learnt = tokens if chosen != rejected and longer <= settings.max_length else 0
    return _Row({"chosen_ids": chosen, "rejected_ids": rejected}, tokens, learnt, 0, longer)


def _marked(row: Mapping[str, Any], renderer: Renderer, settings: TrainingSettings) -> _Row:
    *turns, answer = row["messages"]
    found = renderer.answer(turns, [answer])
    first = next((place for place, label in enumerate(found.labels) if label != IGNORED), len(found.ids))
    ids = found.ids[: settings.max_length]
    columns = {"prompt_ids": ids[:first], "completion_ids": ids[first:], "label": bool(row["label"])}
    return _Row(columns, len(ids), len(ids[first:]), len(found.ids) - len(ids), len(ids))


def _asked(row: Mapping[str, Any], renderer: Renderer, settings: TrainingSettings) -> _Row:
    """Return a row that is answered while training. The whole row stays beside it, for graders."""
    ids = renderer.prompt(row["messages"])
    fits = len(ids) + settings.max_completion_tokens <= settings.max_length
    columns = {"prompt": [dict(turn) for turn in row["messages"]], "row": json.dumps(row)}
    # The answer's tokens are learnt; how many there will be is not known before.
    learnt = settings.max_completion_tokens if fits else 0
    length = len(ids) + settings.max_completion_tokens
    return _Row(columns, length, learnt, 0, length)


_Reader = Callable[[Mapping[str, Any], Renderer, TrainingSettings], _Row]
_READERS: Final[Mapping[Stage, _Reader]] = {
    Stage.SUPERVISED: _chat,
    Stage.RAFT: _chat,
    Stage.DPO: _preference,
    Stage.KTO: _marked,
    Stage.REWARD_MODEL: _judged,
    Stage.RLHF: _asked,
    Stage.RLAIF: _asked,
}


def _blocks(
    rows: Sequence[Mapping[str, Any]], renderer: Renderer, settings: TrainingSettings, code: FailureCode
) -> TokenRows:
    """Return documents in a drawn order, joined and cut to blocks of equal length, so that nothing is padding."""
    order = list(range(len(rows)))
    random.Random(settings.seed).shuffle(order)  # noqa: S311  an order, no secret
    documents: list[list[int]] = []
    empty: list[int] = []
    for number in order:
        text = rows[number].get("text")
        if not isinstance(text, str):
            raise Refused(code, f"Row {number + 1} has not the form that continued_pretraining reads.")
        if not text.strip():
            empty.append(number + 1)
            continue
        documents.append(renderer.document(text))
    _check_labels(sorted(empty), len(rows), code)
    blocks = list(_cut(documents, settings.max_length))
    lengths = [len(block) for block in blocks]
    counts = RowsRead(
        rows=len(blocks),
        without_labels=len(empty),
        tokens=sum(lengths),
        masked_tokens=0,
        truncated_tokens=0,
        longest=max(lengths),
    )
    return TokenRows({"input_ids": blocks, "labels": [list(block) for block in blocks]}, lengths, counts)


def _cut(documents: Sequence[Sequence[int]], length: int) -> Iterator[list[int]]:
    joined = [token for document in documents for token in document]
    for start in range(0, len(joined), length):
        # A last block of one token has nothing to predict.
        if len(block := joined[start : start + length]) > 1:
            yield block


def _check_labels(empty: Sequence[int], rows: int, code: FailureCode) -> None:
    if len(empty) <= rows * _MOST_WITHOUT_LABELS and len(empty) < rows:
        return
    named = ", ".join(str(number) for number in empty[:_NAMED_ROWS]) + (" …" if len(empty) > _NAMED_ROWS else "")
    raise Refused(
        code,
        f"{len(empty)} of {rows} rows hold nothing to learn within the longest row allowed (rows {named}); at most "
        f"{_MOST_WITHOUT_LABELS:.0%} may. They may be too long, without an assistant's turn, or alike in both answers.",
    )


def _check_ends(rows: TokenRows, renderer: Renderer) -> None:
    if not any(renderer.end_ids.intersection(labels) for labels in rows.columns["labels"]):
        raise Refused(
            FailureCode.INVALID_MODEL,
            "No token that ends an answer would be learnt: the chat template ends the assistant's turns with none, or "
            "every answer is cut off before its end. The model would not stop.",
        )
