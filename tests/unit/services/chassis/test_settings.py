from pathlib import Path

import pytest
from pydantic import Field

from services.chassis.settings import RoomSettings, load, room_config


class KitchenSettings(RoomSettings):
    model_config = room_config("KITCHEN")

    cooks: int = Field(default=2, ge=1, le=9)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_COOKS", "3")
    assert load(KitchenSettings).cooks == 3


def test_a_wrong_value_names_the_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_COOKS", "0")
    with pytest.raises(SystemExit) as exit_:
        load(KitchenSettings)
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert "BRAIN_KITCHEN_COOKS" in said
    assert "greater than or equal to 1" in said


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        KitchenSettings().cooks = 4


@pytest.mark.parametrize("wrong", ["key.pem", '"key.pem"', '{"file": "key.pem"}'])
def test_a_list_that_is_none_names_the_variable_and_its_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_TOKEN_PUBLIC_KEY_FILES", wrong)
    with pytest.raises(SystemExit) as exit_:
        load(KitchenSettings)
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("BRAIN_KITCHEN_TOKEN_PUBLIC_KEY_FILES: use a JSON list")
    assert repr(wrong) in said


def test_a_list_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_TOKEN_PUBLIC_KEY_FILES", f'["{__file__}"]')
    assert load(KitchenSettings).token_public_key_files == (Path(__file__),)


@pytest.mark.parametrize("wrong", ["key.pem", '["key.pem"]', '"finetuning"'])
def test_an_object_that_is_none_names_the_variable_and_its_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_WORKER_PUBLIC_KEY_FILES", wrong)
    with pytest.raises(SystemExit) as exit_:
        load(KitchenSettings)
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("BRAIN_KITCHEN_WORKER_PUBLIC_KEY_FILES: use a JSON object")
    assert repr(wrong) in said


def test_an_object_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_WORKER_PUBLIC_KEY_FILES", f'{{"finetuning": "{__file__}"}}')
    assert load(KitchenSettings).worker_public_key_files == {"finetuning": Path(__file__)}


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("BRAIN_KITCHEN_TOKEN_PUBLIC_KEY_FILES", '["/no/such.pem"]')
    monkeypatch.setenv("BRAIN_KITCHEN_WORKER_PUBLIC_KEY_FILES", '{"finetuning": "/no/worker.pem"}')
    monkeypatch.setenv("BRAIN_KITCHEN_TLS_CERT_FILE", "/no/such.crt")
    with pytest.raises(SystemExit):
        load(KitchenSettings)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "BRAIN_KITCHEN_TOKEN_PUBLIC_KEY_FILES",
        "BRAIN_KITCHEN_WORKER_PUBLIC_KEY_FILES",
        "BRAIN_KITCHEN_TLS_CERT_FILE",
    ]
    assert "/no/such.pem" in said[0]
    assert "/no/worker.pem" in said[1]
    assert "/no/such.crt" in said[2]
