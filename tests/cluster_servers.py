"""Where the real servers of a cluster are, for the tests that `make test-cluster` runs on them."""

import json
import os
from dataclasses import asdict, dataclass

import pytest

VARIABLE = "BRAIN_TEST_CLUSTER"


@dataclass(frozen=True)
class ClusterServers:
    """Addresses of running servers, all on 127.0.0.1.

    Attributes:
        kafka: Broker, `host:port`; plain text, topics are not made by themselves.
        weaviate_http: Base address of REST, `http://host:port`.
        weaviate_grpc: `host:port`.
        weaviate_key: API key of the administrator.
        redis: `redis://host:port`.
        postgres: `postgresql://user@host:port`, without a database; the user may make databases.
        s3: Endpoint, `http://host:port`.
        s3_access_key: Access key.
        s3_secret_key: Its secret.
        s3_bucket: A bucket that is there.
    """

    kafka: str
    weaviate_http: str
    weaviate_grpc: str
    weaviate_key: str
    redis: str
    postgres: str
    s3: str
    s3_access_key: str
    s3_secret_key: str
    s3_bucket: str

    def as_variable(self) -> str:
        """Return what the environment variable says."""
        return json.dumps(asdict(self))


def cluster_servers() -> ClusterServers:
    """Return the servers that run; without them the test is skipped."""
    said = os.environ.get(VARIABLE)
    if not said:
        pytest.skip("Needs the servers of a cluster: make test-cluster.")
    return ClusterServers(**json.loads(said))
