"""What tests on the servers of a cluster share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def leavings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what libraries leave to the garbage collector with the test that may leave it, not with a later one."""
    yield
    if request.node.get_closest_marker("filterwarnings"):
        gc.collect()
