import pytest

from services.chassis.errors import InvalidInput
from services.finetuning.domain.jobs import check_metadata, openai_metrics, result_csv


def test_a_result_file_has_one_line_a_step_however_often_it_was_told_of() -> None:
    told = [
        {"step": 1.0, "train_loss": 2.5},
        {"step": 1.0, "valid_loss": 2.9},
        {"step": 2.0, "train_loss": 2.25},
        # The trainer died, and went on from the first step.
        {"step": 2.0, "train_loss": 2.0},
    ]
    assert result_csv(told).decode() == "step,train_loss,valid_loss\n1,2.5,2.9\n2,2,\n"


def test_metrics_have_openais_names() -> None:
    told = openai_metrics({"loss": 2, "mean_token_accuracy": 0.5, "tokens": 100, "valid_loss": 3.0, "kl": 0.1})
    assert told == {
        "train_loss": 2.0,
        "train_mean_token_accuracy": 0.5,
        "trained_tokens": 100.0,
        "valid_loss": 3.0,
        "kl": 0.1,
    }


@pytest.mark.parametrize("metadata", [{"team": "h\0r"}, {"te\0am": "hr"}, {"": "hr"}, {"team": "x" * 513}])
def test_notes_that_cannot_be_looked_for_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="metadata"):
        check_metadata(metadata)
