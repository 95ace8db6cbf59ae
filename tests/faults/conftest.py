"""What the tests of faults below the rooms share: one stack on servers of its own."""

from collections.abc import Iterator

import pytest

from tests.cluster_servers import ClusterServers
from tests.faults.own_servers import OwnStack, own_stack


@pytest.fixture(scope="session")
def own(cluster: ClusterServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnStack]:
    """A stack whose servers may be hurt; who hurts one leaves it running."""
    with own_stack(tmp_path_factory.mktemp("own")) as running:
        yield running
