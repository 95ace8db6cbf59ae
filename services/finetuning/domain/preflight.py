"""Proof that rows can be trained on, before a second of training is spent."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.finetuning.domain.contradictions import contradictions
from services.finetuning.domain.encoding import RowTokens
from services.finetuning.domain.near_duplicates import (
    clusters,
    comparable,
    exact_groups,
    fingerprint,
    overlap,
    question_of,
)
from services.finetuning.domain.personal_data import PersonalData, found_in
from services.finetuning.domain.report import Finding, Report, Severity, at_lines, ordered
from services.finetuning.domain.row_reading import NumberedRow, RowFile
from services.finetuning.domain.rows import KIND_OF_STAGE, KtoRow, RowKind, texts_of

MOST_UNLEARNT: Final = 0.01
"""Share of rows without a token to learn above which training would report a loss of 0 and call it success."""
FEW_ROWS: Final = {
    "continued_pretraining": 20,
    "supervised": 50,
    "raft": 100,
    "dpo": 100,
    "kto": 100,
    "reward_model": 100,
    "rlhf": 64,
    "rlaif": 64,
}
"""Rows below which a stage is warned about: it runs, and its result says little."""

# Shares of the smaller class of judged answers below which the other one drowns it.
_LOPSIDED: Final = 0.2
# Share of cut tokens from which rows lose more than their ends.
_MUCH_CUT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked.

    Attributes:
        stage: Name of the stage.
        training: The rows to train on, with their faults.
        tokens: Lengths of those rows, in their order.
        max_length: Most tokens of a sequence.
        template_hash: Chat template that the rows were rendered with; empty for none.
        served_template_hash: Chat template that the engine serves; empty when that is not known.
        special_tokens: Texts that must not stand inside a row's text.
        validation: The rows to validate with; None for none.
        evaluation_questions: Questions by which the adapter will be graded.
        mark: What stands before the question in a turn with passages (`LayoutTexts.question`).
        seed: Of the search for near duplicates.
        more: What was found elsewhere, of the adapter's shape.
    """

    stage: str
    training: RowFile
    tokens: tuple[RowTokens, ...]
    max_length: int
    template_hash: str = ""
    served_template_hash: str = ""
    special_tokens: frozenset[str] = frozenset()
    validation: RowFile | None = None
    evaluation_questions: tuple[str, ...] = ()
    mark: str = ""
    seed: int = 0
    more: tuple[Finding, ...] = ()


def check(subject: Subject) -> Report:
    """Return what was found. Takes about 3 ms a row, most of it for near duplicates: call it in a thread."""
    kind = KIND_OF_STAGE[subject.stage]
    rows = subject.training.rows
    findings: list[Finding] = [*subject.more, *_faults(subject.training, "row")]
    if subject.validation is not None:
        findings += _faults(subject.validation, "validation_row")
    if rows:
        findings += _few(subject.stage, len(rows))
        findings += _tokens(subject, kind)
        findings += _special(subject)
        findings += _duplicates(rows, subject)
        findings += _overlaps(rows, subject)
        findings += _personal(rows)
        findings += _balance(rows)
        findings += [
            at_lines("contradiction", Severity.WARNING, reason, [rows[at].line for at in places])
            for reason, places in contradictions([one.row for one in rows])
        ]
    return Report(
        subject.stage, ordered(findings), _numbers(subject), subject.template_hash if kind is not RowKind.TEXT else ""
    )


def _faults(file: RowFile, prefix: str) -> list[Finding]:
    found = [
        Finding(f"{prefix}_{error.code}", Severity.ERROR, f"{error}.", (error.line,) if error.line else ())
        for error in file.errors
    ]
    if file.error_count > len(file.errors):
        message = f"{file.error_count - len(file.errors)} further faults are not listed."
        found.append(Finding(f"{prefix}_more", Severity.ERROR, message, (), {"faults": file.error_count}))
    return found


def _few(stage: str, count: int) -> list[Finding]:
    if count >= FEW_ROWS[stage]:
        return []
    message = f"{count} rows are few for {stage}; from {FEW_ROWS[stage]} on its result begins to mean something."
    return [Finding("few_rows", Severity.WARNING, message, (), {"rows": count, "recommended": FEW_ROWS[stage]})]


def _tokens(subject: Subject, kind: RowKind) -> list[Finding]:
    rows, tokens = subject.training.rows, subject.tokens
    found: list[Finding] = []
    if kind is not RowKind.TEXT and not subject.template_hash:
        message = "The base model has no chat template; train it on text rows, or choose another."
        return [Finding("no_template", Severity.ERROR, message)]
    if (
        subject.served_template_hash
        and subject.served_template_hash != subject.template_hash
        and kind is not RowKind.TEXT
    ):
        message = "The engine serves another chat template than the rows were rendered with; use the same model folder."
        found.append(Finding("template_differs", Severity.ERROR, message))
    refused = [(row.line, one.refused) for row, one in zip(rows, tokens, strict=True) if one.refused]
    if refused:
        message = f"The chat template does not take {len(refused)} of {len(rows)} rows: {refused[0][1]}"
        found.append(at_lines("template_refused", Severity.ERROR, message, [line for line, _ in refused]))
    cut = [row.line for row, one in zip(rows, tokens, strict=True) if one.cut]
    if cut:
        found.append(_cut(subject, cut))
    if kind is not RowKind.PROMPTS:
        found += _labels(subject, ends=kind is not RowKind.TEXT)
    return found


def _cut(subject: Subject, lines: Sequence[int]) -> Finding:
    lost = sum(one.cut for one in subject.tokens)
    share = lost / (lost + sum(one.tokens for one in subject.tokens))
    message = (
        f"{len(lines)} of {len(subject.tokens)} rows are longer than {subject.max_length} tokens; {share:.1%} of all tokens "
        "are cut off, the ends of answers first. Use shorter rows or a larger max_length."
    )
    severity = Severity.WARNING if share < _MUCH_CUT else Severity.ERROR
    return at_lines("truncated", severity, message, lines, {"tokens": lost, "share": round(share, 6)})


def _labels(subject: Subject, *, ends: bool) -> list[Finding]:
    rows = [(row.line, one) for row, one in zip(subject.training.rows, subject.tokens, strict=True) if not one.refused]
    found: list[Finding] = []
    unlearnt = [line for line, one in rows if not one.labels]
    if unlearnt:
        share = len(unlearnt) / len(rows)
        message = (
            f"{len(unlearnt)} of {len(rows)} rows hold no token that the model would learn to say (weight 0, or cut off "
            f"before the answer); at most {MOST_UNLEARNT:.0%} may."
        )
        severity = Severity.ERROR if share > MOST_UNLEARNT else Severity.WARNING
        found.append(at_lines("no_labels", severity, message, unlearnt, {"share": round(share, 6)}))
    if ends:
        open_ended = [line for line, one in rows if one.labels and not one.ends]
        if rows and not any(one.ends for _, one in rows):
            message = "No row teaches the model to end its turn: it would go on for ever. Use a larger max_length."
            found.append(at_lines("no_end_of_turn", Severity.ERROR, message, [line for line, _ in rows]))
        elif open_ended:
            message = f"{len(open_ended)} of {len(rows)} rows are cut before the end of the answer."
            found.append(at_lines("open_ended", Severity.WARNING, message, open_ended))
    return found


def _special(subject: Subject) -> list[Finding]:
    counts: Counter[str] = Counter()
    lines = []
    for row in subject.training.rows:
        here = {token for token in subject.special_tokens if any(token in text for text in texts_of(row.row))}
        counts.update(here)
        lines += [row.line] if here else []
    if not lines:
        return []
    named = ", ".join(token for token, _ in counts.most_common(5))
    message = f"Texts hold special tokens of the model ({named}), which would begin or end turns; leave them out."
    return [at_lines("special_token", Severity.ERROR, message, lines)]


def _duplicates(rows: Sequence[NumberedRow], subject: Subject) -> list[Finding]:
    texts = comparable([one.row for one in rows], subject.mark)
    exact = exact_groups(["\n".join(texts_of(one.row)) for one in rows])
    same = {at: group[0] for group in exact for at in group}
    found: list[Finding] = []
    if exact:
        repeated = [rows[at].line for group in exact for at in group[1:]]
        message = f"{len(repeated)} rows say the same as an earlier one; they weigh as often as they stand there."
        found.append(at_lines("exact_duplicates", Severity.WARNING, message, repeated, {"groups": len(exact)}))
    members: dict[int, list[int]] = defaultdict(list)
    for at, cluster in enumerate(clusters(texts, seed=subject.seed)):
        members[cluster].append(at)
    near = [group for group in members.values() if len({same.get(at, at) for at in group}) > 1]
    if near:
        lines = [rows[at].line for group in near for at in group]
        message = f"{len(lines)} rows are nearly the same as others ({len(near)} clusters); a split must not part them."
        found.append(at_lines("near_duplicates", Severity.INFO, message, lines, {"clusters": len(near)}))
    return found


def _overlaps(rows: Sequence[NumberedRow], subject: Subject) -> list[Finding]:
    found: list[Finding] = []
    if subject.validation is not None and subject.validation.rows:
        held = [one.row for one in subject.validation.rows]
        both = comparable([*(one.row for one in rows), *held], subject.mark)
        matches = overlap(both[: len(rows)], both[len(rows) :], seed=subject.seed)
        if matches:
            lines = [rows[match.index].line for match in matches]
            message = f"{len(lines)} rows stand nearly the same in the validation file, whose loss then says little."
            found.append(at_lines("validation_overlap", Severity.WARNING, message, lines))
        raters = {row.origin.rater for row in held if row.origin.rater}
        graded = [one.line for one in rows if one.row.origin.rater in raters]
        if graded:
            message = f"{len(graded)} rows are of raters whose feedback is in the validation file, too; part them."
            found.append(at_lines("rater_overlap", Severity.ERROR, message, graded))
    if subject.evaluation_questions:
        found += _graded(rows, subject)
    return found


def _graded(rows: Sequence[NumberedRow], subject: Subject) -> Iterable[Finding]:
    asked = [question_of(one.row, subject.mark) or "\n".join(texts_of(one.row)) for one in rows]
    wanted = {fingerprint(question) for question in subject.evaluation_questions}
    exact = [at for at, question in enumerate(asked) if fingerprint(question) in wanted]
    if exact:
        message = f"{len(exact)} rows ask what the adapter will be graded with; take them out."
        yield at_lines("evaluation_overlap", Severity.ERROR, message, [rows[at].line for at in exact])
    matches = overlap(asked, subject.evaluation_questions, seed=subject.seed)
    near = [match.index for match in matches if match.index not in set(exact)]
    if near:
        message = f"{len(near)} rows ask nearly what the adapter will be graded with."
        yield at_lines("evaluation_near", Severity.WARNING, message, [rows[at].line for at in near])


_NAMES: Final = {
    PersonalData.EMAIL: "e-mail addresses",
    PersonalData.PHONE: "telephone numbers",
    PersonalData.IBAN: "bank account numbers",
    PersonalData.CARD: "card numbers",
    PersonalData.NATIONAL_ID: "national identifiers",
}


def _personal(rows: Sequence[NumberedRow]) -> list[Finding]:
    counts: Counter[PersonalData] = Counter()
    lines: dict[PersonalData, list[int]] = defaultdict(list)
    for one in rows:
        for text in texts_of(one.row):
            here = found_in(text)
            counts.update(here)
            for kind in here:
                lines[kind].append(one.line)
    return [
        at_lines(
            f"personal_data_{kind}",
            Severity.WARNING,
            f"{counts[kind]} {_NAMES[kind]} stand in the rows; a model may say them to anybody who may use it.",
            lines[kind],
            {"found": counts[kind]},
        )
        for kind in PersonalData
        if counts[kind]
    ]


def _balance(rows: Sequence[NumberedRow]) -> list[Finding]:
    labels = [one.row.label for one in rows if isinstance(one.row, KtoRow)]
    if not labels:
        return []
    good = sum(labels)
    numbers = {"good": good, "bad": len(labels) - good}
    if good in {0, len(labels)}:
        message = f"All answers are {'good' if good else 'bad'}: there is nothing to tell apart. Add the other kind."
        return [Finding("one_class", Severity.ERROR, message, (), numbers)]
    share = min(good, len(labels) - good) / len(labels)
    if share >= _LOPSIDED:
        return []
    message = f"{good} answers are good and {len(labels) - good} bad; below {_LOPSIDED:.0%} of one kind it is drowned."
    return [Finding("lopsided_classes", Severity.WARNING, message, (), numbers)]


def _numbers(subject: Subject) -> dict[str, float]:
    tokens = sum(one.tokens for one in subject.tokens)
    cut = sum(one.cut for one in subject.tokens)
    found: dict[str, float] = {
        "rows": len(subject.training.rows),
        "validation_rows": len(subject.validation.rows) if subject.validation else 0,
        "faults": subject.training.error_count,
        "tokens": tokens,
        "truncated_tokens": cut,
        "truncated_share": round(cut / (cut + tokens), 6) if tokens else 0.0,
        "longest_row": max((one.longest for one in subject.tokens), default=0),
        "mean_tokens": round(tokens / len(subject.tokens), 2) if subject.tokens else 0.0,
        "max_length": subject.max_length,
    }
    if KIND_OF_STAGE[subject.stage] is RowKind.PROMPTS:
        # Their answers are sampled; nothing of the rows is learnt.
        return found
    labels = sum(one.labels for one in subject.tokens)
    return found | {
        "learnt_tokens": labels,
        "masked_share": round(1 - labels / tokens, 6) if tokens else 0.0,
        "rows_without_labels": sum(not one.labels for one in subject.tokens),
    }
