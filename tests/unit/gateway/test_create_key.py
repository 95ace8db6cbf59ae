"""`python -m gateway create-key` and `set-quota`: done on the machine, without loading the gateway."""

import os
import subprocess
import sys
from pathlib import Path

from gateway.backends.database import KeysTable, UsageTable
from gateway.domain.identity import hash_secret
from services.chassis.auth import Role
from services.chassis.database import Database

PEPPER = b"0" * 32
# The modules that were loaded are said last, after the command's own output.
COMMAND = """
import sys
from gateway.bootstrap import main
main(sys.argv[1:])
print(" ".join(sorted(sys.modules)))
"""


def run(folder: Path, *arguments: str, command: str = "create-key") -> "subprocess.CompletedProcess[str]":
    (folder / "pepper").write_bytes(PEPPER)
    addresses = {
        f"BRAIN_GATEWAY_{room}_ADDRESS": "127.0.0.1:1" for room in ("INGESTION", "RETRIEVAL", "GENERATION", "CHAT")
    }
    files = {
        "BRAIN_GATEWAY_DATABASE_URL": f"sqlite:///{folder}/room.db",
        "BRAIN_GATEWAY_API_KEY_SECRET_FILE": str(folder / "pepper"),
        "BRAIN_GATEWAY_TOKEN_PRIVATE_KEY_FILE": str(folder / "none.pem"),
    }
    return subprocess.run(
        [sys.executable, "-c", COMMAND, command, *arguments],
        env={**os.environ, **addresses, **files},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_key_is_kept_and_the_rest_of_the_gateway_is_not_loaded(tmp_path: Path) -> None:
    done = run(tmp_path, "--tenant", "acme", "--subject", "ann", "--role", "curator", "--group", "hr")
    assert done.returncode == 0, done.stderr
    secret, modules = done.stdout.splitlines()
    database = Database(f"sqlite:///{tmp_path}/room.db")
    try:
        key = await KeysTable(database).find(hash_secret(secret, PEPPER))
    finally:
        await database.close()
    assert key is not None
    assert (key.grant.tenant, key.grant.subject) == ("acme", "ann")
    assert (key.grant.roles, key.grant.groups) == (frozenset({Role.CURATOR}), frozenset({"hr"}))
    parts = ("gateway.api", "gateway.bootstrap.serving", "brain.", "uvicorn", "opentelemetry.sdk")
    assert [name for name in modules.split() if name.startswith(parts)] == []


def test_a_grant_that_is_not_allowed_is_refused_with_its_reason(tmp_path: Path) -> None:
    done = run(tmp_path, "--tenant", " ", "--subject", "ann", "--role", "curator")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("tenant: ' ' is not allowed; give 1 to 128 characters.")


async def test_a_quota_is_set_and_lifted(tmp_path: Path) -> None:
    async def quota() -> int | None:
        database = Database(f"sqlite:///{tmp_path}/room.db")
        try:
            return await UsageTable(database).quota("acme")
        finally:
            await database.close()

    done = run(tmp_path, "--tenant", "acme", "--tokens-per-day", "1000", command="set-quota")
    assert done.returncode == 0, done.stderr
    assert await quota() == 1000
    assert run(tmp_path, "--tenant", "acme", command="set-quota").returncode == 0
    assert await quota() is None
    assert run(tmp_path, "--tenant", "acme", "--tokens-per-day", "-1", command="set-quota").returncode == 1
