"""A judge's preferences: position cancelled, in both directions, usable or refused, and never judged twice."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from services.finetuning.domain.training import LoraShape, Stage, TrainingPlan
from services.finetuning.domain.training_messages import FailureCode, PairsJudged, Paused, Started
from services.finetuning.trainer import judging
from services.finetuning.trainer.judging import LEAST_USABLE, MARGIN, Judge, verdict
from services.finetuning.trainer.process import PauseWish
from services.finetuning.trainer.refusal import Refused

Trained = Callable[..., Any]
Plans = Callable[..., TrainingPlan]


def test_a_preference_for_a_position_cancels() -> None:
    for bias in (-3.0, 0.0, 5.0):
        assert verdict(bias, bias) == 0.0
        assert verdict(bias + 1.5, bias - 1.5) == 1.5


@pytest.fixture
def judge(plans: Plans, tokenizer: Any) -> Judge:
    from services.finetuning.trainer.hardware import hardware_for
    from services.finetuning.trainer.judging import open_judge

    plan = plans(Stage.RLAIF)
    return open_judge(plan, hardware_for(plan), tokenizer)[0]


def test_the_judge_says_the_same_of_a_pair_whichever_stands_first(judge: Judge) -> None:
    asked = [{"role": "user", "content": "Which room?"}]
    one, two = "Room 7.", "I would rather not say, and you should not ask."
    assert judge.prefers_first(asked, one, two) == pytest.approx(-judge.prefers_first(asked, two, one))
    assert judge.prefers_first(asked, one, one) == pytest.approx(0.0)


def test_pairs_are_sampled_judged_and_trained_on(
    plans: Plans, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small random model has no preferences; what it says of the pairs is replaced, what becomes of it is not.
    monkeypatch.setattr(Judge, "prefers_first", lambda self, turns, first, second: float(len(first) - len(second)))
    plan = plans(Stage.RLAIF, settings={"samples_per_prompt": 4, "max_steps": 2})
    run = trained(plan)
    (judged,) = run.of(PairsJudged)
    assert (judged.prompts, judged.pairs) == (12, 24)
    assert judged.usable >= LEAST_USABLE * judged.different
    lines = [json.loads(line) for line in judged.path.read_text().splitlines()]
    assert all(pair["preference"] == len(pair["first"]) - len(pair["second"]) for row in lines for pair in row)
    assert run.finished.step == 2
    assert run.curve()[1] == pytest.approx(0.6931, abs=1e-4)
    assert run.adapter.is_dir()


def test_a_judge_that_cannot_tell_answers_apart_is_refused(
    plans: Plans, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "prefers_first", lambda *_: MARGIN / 2)
    with pytest.raises(Refused, match=r"0 of 12 pairs .* at least 30%") as caught:
        trained(plans(Stage.RLAIF))
    assert caught.value.code is FailureCode.TOO_FEW_USABLE_PAIRS


def test_pairs_of_the_same_answer_say_nothing_of_the_judge(
    plans: Plans, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "prefers_first", lambda *_: 1.0)
    drawn = iter(["One.", "Another."] + ["The same."] * 22)
    monkeypatch.setattr(judging, "sample_answers", lambda *_: [next(drawn), next(drawn)])
    run = trained(plans(Stage.RLAIF))
    (judged,) = run.of(PairsJudged)
    assert (judged.pairs, judged.different, judged.usable) == (12, 1, 1)


def test_a_model_that_always_says_the_same_is_refused_by_its_own_name(
    plans: Plans, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "sample_answers", lambda *_: ["The same.", "The same."])
    with pytest.raises(Refused, match="In each of 12 pairs the model gave the same answer twice") as caught:
        trained(plans(Stage.RLAIF))
    assert caught.value.code is FailureCode.NO_DIFFERENT_ANSWERS


def test_what_was_judged_is_not_judged_again(plans: Plans, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.finetuning.trainer.run import train

    asked: list[str] = []
    wish = PauseWish()

    def prefers(self: Judge, turns: list[Mapping[str, Any]], first: str, second: str) -> float:
        asked.append(str(turns[-1]["content"]))
        wish.told = len(asked) == 5
        return 1.0

    monkeypatch.setattr(Judge, "prefers_first", prefers)
    plan = plans(Stage.RLAIF)
    assert train(plan, send=lambda _: None, pause=wish) == Paused(0, None)
    kept = plan.work / "judged.jsonl"
    before = kept.read_text()
    # The process was killed while it wrote: the line that is not whole is judged again.
    kept.write_text(before + '[{"first": "half')
    wish.told = False
    run = trained(plan)
    assert kept.read_text().startswith(before)
    assert len(asked) == len(set(asked)) == 12
    assert run.of(PairsJudged)[0].pairs == 12
    assert run.of(Started)[0].total_steps == 2


def test_an_adapter_may_judge(plans: Plans, trained: Trained, tokenizer: Any) -> None:
    from services.finetuning.trainer.hardware import hardware_for

    shape = LoraShape(rank=8, alpha=64.0)
    adapter = trained(plans(Stage.SUPERVISED, settings={"lora": shape})).adapter
    asked = [{"role": "user", "content": "Which room?"}]
    verdicts = []
    for judging_adapter in (None, adapter):
        plan = plans(Stage.RLAIF, judge_adapter=judging_adapter)
        judge, model = judging.open_judge(plan, hardware_for(plan), tokenizer)
        verdicts.append(judge.prefers_first(asked, "Room 7.", "No idea at all."))
        # Judging leaves the policy as it was.
        assert model.active_adapter == "default"
    assert verdicts[0] != verdicts[1]
