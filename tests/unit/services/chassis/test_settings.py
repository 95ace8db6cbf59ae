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
