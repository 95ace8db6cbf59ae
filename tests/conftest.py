"""What all tests share: the data beside the checkout, and stacks that are started once per run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster_servers import VARIABLE, ClusterServers, cluster_servers
from tests.fresh_databases import fresh_schema
from tests.generation_client import GenerationRoom
from tests.running_stack import ROOT, RunningStack, running_stack

SHARED_DATA = ROOT.parent / "shared" / "data"

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Folders of tests that run on stacks, and what of them asks the engine alone, whatever the stack stands on.
_ON_STACKS = {"e2e", "faults"}
_ENGINE_ALONE = {"test_real_engine"}
# Tests that share what takes longest to start begin first, then those with stacks and servers of their own; the others fill
# what is left.
_FIRST = {"engine": 0, "own": 1, "scripted_stack": 2}
_LONG = {*_ON_STACKS, "cluster"}


# Before xdist's own hook, which reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal tests out to processes so that each stack is started once per run: by the stack they share, else by file.

    Where the servers of a cluster run, the stacks of tests stand on them: whatever runs on a stack is a test of the cluster then.
    """
    for item in items:
        if VARIABLE in os.environ and item.path.parent.name in _ON_STACKS and item.path.stem not in _ENGINE_ALONE:
            item.add_marker(pytest.mark.cluster)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_place)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run where the groups did not take: every process would start stacks of its own.

    Raises:
        UsageError: xdist did not name the groups.
    """
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if not item.nodeid.endswith(f"@{_group(item)}"):
                raise pytest.UsageError(
                    f"{item.nodeid}: xdist did not take its group; see the pin of pytest in pyproject.toml."
                )


def _place(item: pytest.Item) -> int:
    return _FIRST.get(_group(item), len(_FIRST) + (item.path.parent.name not in _LONG))


def _group(item: pytest.Item) -> str:
    fixtures = getattr(item, "fixturenames", ())
    if item.get_closest_marker("engine") or "stack" in fixtures:
        return "engine"
    shared = next((name for name in ("own", "scripted_stack") if name in fixtures), None)
    return shared or str(item.path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real documents and questions beside the checkout; in CI it must be there."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI runs the tests on real documents: the data folder is missing beside the checkout.")
        pytest.skip("No data folder beside the checkout.")
    return SHARED_DATA


@pytest.fixture(scope="session")
def cluster() -> ClusterServers:
    """The real servers that `make test-cluster` started."""
    return cluster_servers()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.cluster)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of a room's own: on this machine, and in a cluster."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/room.db"
        return
    servers: ClusterServers = request.getfixturevalue("cluster")
    with fresh_schema(servers.postgres) as url:
        yield url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole stack on the real engine."""
    with running_stack(tmp_path_factory.mktemp("stack"), engine="vllm://") as running:
        yield running


@pytest.fixture(scope="session")
def scripted_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole stack on the scripted engine, which answers with the best sentence of the passages."""
    with running_stack(tmp_path_factory.mktemp("scripted"), engine="scripted://?mode=extract") as running:
        yield running


@pytest.fixture(scope="session")
def engine_room(request: pytest.FixtureRequest) -> GenerationRoom:
    """The generation room of the running stack, on the real engine.

    A room that runs already is taken instead when `BRAIN_TEST_GENERATION` says `address,metrics address,state folder`.
    """
    if running := os.environ.get("BRAIN_TEST_GENERATION"):
        address, metrics, state_dir = running.split(",")
        return GenerationRoom(address, metrics, Path(state_dir))
    stack: RunningStack = request.getfixturevalue("stack")
    return GenerationRoom(
        stack.address("generation"),
        stack.state["rooms"]["generation"]["metrics"],
        stack.state_dir,
        stack.pid("generation"),
    )
