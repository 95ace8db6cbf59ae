"""Settings of a gateway whose rooms are away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from services.chassis.auth import generate_key_pair


@pytest.fixture(scope="session")
def settings_in() -> Callable[..., GatewaySettings]:
    """Return what makes settings in a folder, with keys of their own; limits may be given."""

    def make(folder: Path, **limits: Any) -> GatewaySettings:
        private, public = generate_key_pair()
        (folder / "private.pem").write_bytes(private)
        (folder / "public.pem").write_bytes(public)
        (folder / "pepper").write_bytes(b"pepper")
        return GatewaySettings(
            database_url=f"sqlite:///{folder / 'gateway.db'}",
            ingestion_address="127.0.0.1:1",
            retrieval_address="127.0.0.1:1",
            generation_address="127.0.0.1:1",
            chat_address="127.0.0.1:1",
            finetuning_address="127.0.0.1:1",
            token_private_key_file=folder / "private.pem",
            api_key_secret_file=folder / "pepper",
            state_dir=folder,
            **limits,
        )

    return make
