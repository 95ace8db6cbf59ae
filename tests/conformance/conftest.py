"""What the SDK tests are told by the runner (`__main__.py` beside this), through the environment.

Outside the runner there is no gateway to talk to, so nothing here is collected.
"""

import os
from pathlib import Path

import pytest

_PREFIX = "BRAIN_CONFORMANCE_"
collect_ignore_glob = [] if f"{_PREFIX}URL" in os.environ else ["*_sdk"]

# The company of these tests. Each fact stands in one file only.
TRAVEL = (
    "# Travel policy of Larkspur Instruments\n\n"
    "## Meals\n\nThe daily meal allowance for business trips within the country is 42 euros.\n\n"
    "## Trains\n\nEmployees of Larkspur Instruments travel second class; journeys above four hours may be booked in first class.\n"
)
PETS = (
    "# Office dogs\n\n"
    "Dogs are welcome in the Aldergate office on Wednesdays, provided they stay below 25 kilograms and are registered with Imke Vollmar.\n"
)


def told(name: str) -> str:
    """Return what the runner said."""
    return os.environ[_PREFIX + name]


@pytest.fixture(scope="session")
def url() -> str:
    """Address of the gateway, without a path."""
    return told("URL")


@pytest.fixture(scope="session")
def key() -> str:
    """API key of an administrator."""
    return told("ADMINISTRATOR_KEY")


@pytest.fixture(scope="session")
def viewer_key() -> str:
    """API key that may read and ask, and nothing else."""
    return told("VIEWER_KEY")


@pytest.fixture(scope="session")
def other_tenant_key() -> str:
    """API key of another tenant's administrator."""
    return told("OTHER_TENANT_KEY")


@pytest.fixture(scope="session")
def limited_key() -> str:
    """API key with a limit of a few requests a minute."""
    return told("LIMITED_KEY")


@pytest.fixture(scope="session")
def output() -> Path:
    """What the stack printed when it was ready."""
    return Path(told("OUTPUT"))


@pytest.fixture(scope="session")
def scripted() -> bool:
    """Whether the scripted engine answers (it repeats what the passages say) instead of a small real model."""
    return told("ENGINE") == "scripted"


@pytest.fixture(scope="session")
def texts() -> dict[str, bytes]:
    """The files of these tests, by name."""
    return {"travel.md": TRAVEL.encode(), "pets.md": PETS.encode()}
