import json
from pathlib import Path

import pytest

from services.chassis.auth import Caller, TokenVerifier, WorkerMinter
from services.chassis.errors import InvalidInput
from services.local import plan as planning
from services.local.plan import ROOMS, Addresses, KeyPair, StackPlan, free_addresses, plan_stack
from services.local.stack import prepare
from tests.certificates import Authority

ADDRESSES = {name: Addresses(f"127.0.0.1:{9000 + n}", f"127.0.0.1:{9100 + n}") for n, name in enumerate(ROOMS)}


@pytest.mark.usefixtures("socket_enabled")
def test_every_address_is_given_once() -> None:
    addresses = free_addresses(8099)
    assert set(addresses) == set(ROOMS)
    given = [place for pair in addresses.values() for place in (pair.serving, pair.metrics)]
    assert len(set(given)) == len(given)
    assert addresses["gateway"].serving == "127.0.0.1:8099"


def test_rooms_are_told_where_their_callees_are(tmp_path: Path) -> None:
    plan = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited={})
    assert plan.base_url == f"http://{ADDRESSES['gateway'].serving}"
    assert plan.room("chat").environment["BRAIN_CHAT_RETRIEVAL_ADDRESS"] == ADDRESSES["retrieval"].serving
    assert "BRAIN_RETRIEVAL_CHAT_ADDRESS" not in plan.room("retrieval").environment


def test_rooms_start_after_those_that_they_call(tmp_path: Path) -> None:
    plan = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited={})
    for place, room in enumerate(plan.rooms):
        told = {
            key.removesuffix("_ADDRESS").rpartition("_")[2].lower() for key in room.environment if "_ADDRESS" in key
        }
        assert told <= {other.name for other in plan.rooms[:place]}
    assert plan.room("gateway").environment["BRAIN_GATEWAY_FINETUNING_ADDRESS"] == ADDRESSES["finetuning"].serving


def test_what_the_user_sets_wins(tmp_path: Path) -> None:
    inherited = {"BRAIN_CHAT_LOG_FORMAT": "console", "PATH": "/bin"}
    chat = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited=inherited).room("chat")
    assert chat.environment["BRAIN_CHAT_LOG_FORMAT"] == "console"
    assert chat.environment["PATH"] == "/bin"


def test_a_room_is_looked_for_where_it_is_told_to_listen(tmp_path: Path) -> None:
    inherited = {"BRAIN_RETRIEVAL_LISTEN": "127.0.0.1:7777"}
    plan = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited=inherited)
    assert plan.room("retrieval").addresses == Addresses("127.0.0.1:7777", ADDRESSES["retrieval"].metrics)
    assert plan.room("chat").environment["BRAIN_CHAT_RETRIEVAL_ADDRESS"] == "127.0.0.1:7777"


@pytest.mark.parametrize(
    ("inherited", "name"),
    [
        ({"BRAIN_GENERATION_ENGINE": "scripted://?mode=extract"}, "scripted-extract"),
        ({"BRAIN_GENERATION_ENGINE": "scripted://"}, "scripted-echo"),
        ({"BRAIN_GENERATION_ENGINE": "scripted://?mode=echo", "BRAIN_GENERATION_SERVED_NAME": "house"}, "house"),
        ({"BRAIN_GENERATION_SERVED_NAME": "house"}, "house"),
    ],
)
def test_what_is_trained_on_has_the_name_under_which_it_is_served(
    tmp_path: Path, inherited: dict[str, str], name: str
) -> None:
    plan = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited=inherited)
    for room in ("generation", "finetuning"):
        assert plan.room(room).environment[f"BRAIN_{room.upper()}_SERVED_NAME"] == name


def test_what_is_trained_on_is_what_is_served(tmp_path: Path) -> None:
    inherited = {"BRAIN_GENERATION_MODEL": "/models/house", "BRAIN_GENERATION_CACHE_DIR": "/models/cache"}
    told = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited=inherited).room("finetuning").environment
    assert told["BRAIN_FINETUNING_MODEL"] == "/models/house"
    assert told["BRAIN_FINETUNING_CACHE_DIR"] == "/models/cache"
    inherited |= {"BRAIN_FINETUNING_MODEL": "/models/other"}
    told = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited=inherited).room("finetuning").environment
    assert told["BRAIN_FINETUNING_MODEL"] == "/models/other"


def test_only_the_gateway_gets_the_key_that_signs(tmp_path: Path) -> None:
    plan = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited={})
    holders = [room.name for room in plan.rooms if any("internal.pem" in value for value in room.environment.values())]
    assert holders == ["gateway"]


@pytest.fixture
def with_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackPlan:
    """The plan of a stack that has the worker room."""
    rooms = (*(room for room in ROOMS if room != "finetuning"), "finetuning")
    monkeypatch.setattr(planning, "ROOMS", rooms)
    monkeypatch.setattr(planning, "_MODULES", planning._MODULES | {"finetuning": "services.finetuning"})
    monkeypatch.setattr(planning, "_CALLS", planning._CALLS | {"finetuning": ("ingestion", "retrieval", "generation")})
    addresses = ADDRESSES | {"finetuning": Addresses("127.0.0.1:9300", "127.0.0.1:9301")}
    return plan_stack(state_dir=tmp_path, addresses=addresses, inherited={})


def test_every_room_knows_a_workers_key_and_only_the_worker_signs_with_it(
    tmp_path: Path, with_worker: StackPlan
) -> None:
    private, public = tmp_path / "keys" / "finetuning.pem", tmp_path / "keys" / "finetuning.pub.pem"
    assert with_worker.worker_keys == {"finetuning": KeyPair(private, public)}
    for room in with_worker.rooms:
        told = room.environment[f"BRAIN_{room.name.upper()}_WORKER_PUBLIC_KEY_FILES"]
        assert json.loads(told) == {"finetuning": str(public)}
    holders = [room.name for room in with_worker.rooms if str(private) in room.environment.values()]
    assert holders == ["finetuning"]
    assert with_worker.room("finetuning").environment["BRAIN_FINETUNING_WORKER_KEY_FILE"] == str(private)


def test_a_workers_key_is_made_once_and_is_read_by_its_owner_only(with_worker: StackPlan) -> None:
    prepare(with_worker)
    pair = with_worker.worker_keys["finetuning"]
    token = WorkerMinter(pair.private.read_bytes(), worker="finetuning").mint(Caller("vera", "acme"), work="ftjob-1")
    verifier = TokenVerifier(
        [with_worker.public_key_file.read_bytes()], worker_keys={"finetuning": pair.public.read_bytes()}
    )
    assert verifier.verify(token).worker == "finetuning"
    assert pair.private.stat().st_mode & 0o077 == 0
    before = pair.private.read_bytes()
    prepare(with_worker)
    assert pair.private.read_bytes() == before


def test_the_room_that_signs_webhooks_finds_its_secret(with_worker: StackPlan) -> None:
    prepare(with_worker)
    secret = Path(with_worker.room("finetuning").environment["BRAIN_FINETUNING_WEBHOOK_SECRET_FILE"])
    assert len(secret.read_bytes()) == 64
    assert secret.stat().st_mode & 0o077 == 0


def test_temporary_files_stay_in_the_state_folder_where_socket_paths_fit(tmp_path: Path) -> None:
    short, long = Path("/state"), Path("/" + "deep" * 20)
    plan = plan_stack(state_dir=short, addresses=ADDRESSES, inherited={})
    assert {room.environment["TMPDIR"] for room in plan.rooms} == {str(plan.scratch)} == {"/state/tmp"}
    assert all(
        "TMPDIR" not in room.environment for room in plan_stack(state_dir=long, addresses=ADDRESSES, inherited={}).rooms
    )
    theirs = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited={"TMPDIR": "/elsewhere"})
    assert theirs.room("chat").environment["TMPDIR"] == "/elsewhere"


def test_a_room_with_certificates_is_asked_with_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("chat")
    inherited = {
        "BRAIN_CHAT_TLS_CA_FILE": str(authority.file),
        "BRAIN_CHAT_TLS_CERT_FILE": str(certificate),
        "BRAIN_CHAT_TLS_KEY_FILE": str(key),
        "BRAIN_CHAT_TLS_SERVER_NAME": "chat.svc",
        "BRAIN_RETRIEVAL_TLS_CA_FILE": str(authority.file),
    }
    plan = plan_stack(state_dir=tmp_path, addresses=ADDRESSES, inherited=inherited)
    shown = plan.room("chat").tls()
    assert shown is not None
    assert shown.files.current().certificate == certificate.read_bytes()
    assert shown.server_name == "chat.svc"
    assert plan.room("generation").tls() is None
    # The room refuses its settings; nobody waits for it over plain text.
    with pytest.raises(InvalidInput, match="tls_cert_file"):
        plan.room("retrieval").tls()
