"""What a caller leaves open, the room chooses; what a caller asks for is taken or refused by name."""

import pytest

from services.chassis.errors import InvalidInput
from services.finetuning.domain.training import LoraShape, Stage, TrainingSettings
from services.finetuning.domain.training_defaults import WantedLora, WantedTraining, resolved


def chosen(stage: Stage = Stage.SUPERVISED, rows: int = 400, width: int = 576, **wanted: object) -> TrainingSettings:
    return resolved(stage, WantedTraining(**wanted), rows=rows, width=width, seed=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("rows", [1, 7, 88, 1000, 400_000])
def test_every_stage_can_be_trained_with_nothing_said(stage: Stage, rows: int) -> None:
    settings = chosen(stage, rows)
    assert settings.seed == 5
    assert settings.n_epochs * rows >= min(rows, 25_000)
    assert settings.batch_size <= 8


def test_what_is_asked_for_is_taken() -> None:
    settings = chosen(
        n_epochs=9,
        batch_size=3,
        beta=0.5,
        max_length=300,
        max_steps=11,
        checkpoint_every=2,
        evaluate_every=4,
        samples_per_prompt=6,
        max_completion_tokens=20,
        lora=WantedLora(rank=8, dropout=0.05, target_modules=("q_proj",), rank_stabilised=True),
    )
    assert (settings.n_epochs, settings.batch_size, settings.beta, settings.max_length) == (9, 3, 0.5, 300)
    assert (settings.max_steps, settings.checkpoint_every, settings.evaluate_every) == (11, 2, 4)
    assert (settings.samples_per_prompt, settings.max_completion_tokens) == (6, 20)
    assert settings.lora == LoraShape(8, 16.0, 0.05, ("q_proj",), rank_stabilised=True)


def test_the_multiplier_is_a_factor_on_the_stages_own_rate() -> None:
    for stage in Stage:
        assert chosen(stage, learning_rate_multiplier=0.5).learning_rate == chosen(stage).learning_rate / 2
    assert chosen(Stage.DPO).learning_rate < chosen(Stage.SUPERVISED).learning_rate


def test_narrow_models_learn_at_higher_rates() -> None:
    rates = [chosen(width=width).learning_rate for width in (4096, 2048, 576)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(3e-4)
    assert rates[2] == pytest.approx(1.37e-3, rel=0.01)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 2000.0])
def test_a_multiplier_that_is_no_factor_is_refused(factor: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        chosen(learning_rate_multiplier=factor)
    assert caught.value.param == "learning_rate_multiplier"


def test_few_rows_are_seen_more_often_and_very_many_less() -> None:
    assert chosen(rows=10).n_epochs > chosen(rows=400).n_epochs > chosen(rows=25_000).n_epochs == 1


def test_an_epoch_of_few_rows_still_has_steps() -> None:
    for rows in (12, 30, 60, 200):
        settings = chosen(rows=rows)
        assert rows // settings.batch_size >= 12


def test_a_rank_beyond_the_engines_is_refused() -> None:
    with pytest.raises(InvalidInput, match="1 to 16") as caught:
        resolved(Stage.DPO, WantedTraining(lora=WantedLora(rank=32)), rows=10, width=576, seed=0, max_rank=16)
    assert caught.value.param == "lora.rank"


def test_a_chain_keeps_the_shape_of_its_adapter() -> None:
    start = LoraShape(8, 16.0, 0.0, ("q_proj", "v_proj"), rank_stabilised=True)
    settings = resolved(Stage.DPO, WantedTraining(), rows=100, width=576, seed=0, start=start)
    assert settings.lora == start
    same = WantedLora(rank=8, alpha=16.0, target_modules=("v_proj", "q_proj"), rank_stabilised=True)
    assert resolved(Stage.DPO, WantedTraining(lora=same), rows=100, width=576, seed=0, start=start).lora == start


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("rank", WantedLora(rank=16)),
        ("alpha", WantedLora(alpha=8.0)),
        ("target_modules", WantedLora(target_modules=("q_proj",))),
        ("rank_stabilised", WantedLora(rank_stabilised=False)),
    ],
)
def test_a_chain_cannot_change_the_shape_of_its_adapter(name: str, other: WantedLora) -> None:
    start = LoraShape(8, 16.0, 0.0, ("q_proj", "v_proj"), rank_stabilised=True)
    with pytest.raises(InvalidInput) as caught:
        resolved(Stage.DPO, WantedTraining(lora=other), rows=100, width=576, seed=0, start=start)
    assert caught.value.param == f"lora.{name}"
