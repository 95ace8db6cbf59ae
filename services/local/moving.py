"""Export and import of an installation: every room's own command, in the right order, with the blobs around them."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from services.chassis.blobs import BlobStore, open_blobs
from services.chassis.errors import BrainError, Conflict, InvalidInput, NotFound
from services.chassis.moving.archive import Archive, Manifest
from services.chassis.moving.part import FORMAT, Tell
from services.local.plan import RoomPlan, StackPlan, free_addresses, plan_stack
from services.local.stack import only_one, prepare, write_secret

__all__ = ["export_all", "import_all"]

# Who hears before who tells: of what is told while the export goes on, the teller knows, and tells again at the new place.
_OUT: Final = ("retrieval", "generation", "finetuning", "chat", "ingestion", "gateway")
# Retrieval first: whether it can take its vectors decides what ingestion announces. The gateway last: nobody comes in before.
_IN: Final = ("retrieval", "ingestion", "generation", "finetuning", "chat", "gateway")
# The room whose blobs are everybody's.
_KEEPER: Final = "ingestion"
# Name in an archive -> the setting that names the file.
_SECRETS: Final = {
    "api-keys.secret": ("gateway", "API_KEY_SECRET_FILE"),
    "webhooks.secret": ("finetuning", "WEBHOOK_SECRET_FILE"),
}
# The first administrator's key, as `brain` finds it on one machine.
_ADMINISTRATOR: Final = "administrator.key"
_MAX_REASON: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Installation:
    """An installation as its settings say it."""

    plan: StackPlan

    @classmethod
    def of(cls, state_dir: Path, environment: Mapping[str, str], *, there: bool = False) -> "_Installation":
        if there and "BRAIN_INGESTION_DATABASE_URL" not in environment and not state_dir.is_dir():
            raise InvalidInput(f"state-dir: there is no installation in {str(state_dir)!r}.", param="state-dir")
        return cls(plan_stack(state_dir=state_dir, addresses=free_addresses(0), inherited=environment))

    def blobs(self) -> BlobStore:
        return open_blobs(self.plan.room(_KEEPER).environment[f"BRAIN_{_KEEPER.upper()}_BLOBS_URL"])

    def secret_files(self) -> dict[str, Path]:
        return {
            name: Path(self.plan.room(room).environment[f"BRAIN_{room.upper()}_{setting}"])
            for name, (room, setting) in _SECRETS.items()
        }

    @property
    def administrator(self) -> Path:
        return self.plan.state_dir / "keys" / _ADMINISTRATOR


async def export_all(
    *, state_dir: Path, environment: Mapping[str, str], folder: Path, with_secrets: bool, tell: Tell
) -> dict[str, Any]:
    """Write everything into `folder`, which must be new or empty; return what was written. Rooms may go on meanwhile.

    Args:
        state_dir: Folder of a stack on this machine; what `environment` says goes before it.
        environment: Settings of the rooms, as they are started with.
        folder: The archive.
        with_secrets: Put the secret files into the archive.
        tell: Hears how far it is.

    Raises:
        InvalidInput: There is no installation, or the folder cannot be written to.
        Conflict: The folder is not empty, or a room could not be exported.
    """
    here = _Installation.of(state_dir, environment, there=True)
    archive, began = Archive.made(folder), time.time()
    blobs, files = here.blobs(), archive.blobs
    # Before the tables, which takes long, and again after them: nothing that they name is missing.
    await files.pack(blobs, tell)
    rooms: dict[str, Any] = {}
    for room in _OUT:
        report = await _run(here.plan.room(room), ["export", str(archive.folder)], tell)
        rooms[room] = {"revision": report["revision"], "rows": report["rows"]}
    await files.pack(blobs, tell)
    kept = files.kept()
    secrets = here.secret_files()
    manifest = Manifest(
        format=FORMAT,
        version=version("corporate-brain"),
        began=began,
        ended=time.time(),
        rooms=rooms,
        blobs={"count": len(kept), "bytes": sum(blob.size for blob in kept)},
        secrets={name: _fingerprint(path) for name, path in secrets.items()},
    )
    if with_secrets:
        _pack_secrets(here, archive)
    archive.complete(manifest)
    return {
        "folder": str(archive.folder),
        "rooms": {room: sum(said["rows"].values()) for room, said in rooms.items()},
        "blobs": manifest.blobs,
        # What opens nothing without these files.
        "bring_by_hand": {} if with_secrets else {name: str(path) for name, path in secrets.items()},
    }


async def import_all(
    *, state_dir: Path, environment: Mapping[str, str], folder: Path, new_secrets: bool, tell: Tell
) -> dict[str, Any]:
    """Bring an archive into an installation that is empty and not running; return what was brought.

    Args:
        state_dir: Folder of a stack on this machine; what `environment` says goes before it.
        environment: Settings of the rooms, as they are started with.
        folder: The archive.
        new_secrets: Go on although API keys and secrets of webhooks of the archive will not work here.
        tell: Hears how far it is.

    Raises:
        InvalidInput: The folder is no archive that this release reads, or is damaged.
        Conflict: The target is not empty or is running, or the import ended early; the message says what is in.
        NotFound: A secret file is missing.
    """
    archive = Archive.at(folder)
    manifest = await asyncio.to_thread(archive.verify, tell)
    missing = [room for room in _IN if room not in manifest.rooms]
    if missing:
        raise InvalidInput(f"folder: {str(folder)!r} holds no part of {missing[0]}.", param="folder")
    with only_one(state_dir):
        here = _Installation.of(state_dir, environment)
        _bring_secrets(here, archive, manifest, new_secrets=new_secrets)
        prepare(here.plan)
        blobs = here.blobs()
        # Nothing is written before everything was seen to be empty.
        await archive.blobs.check(blobs)
        for room in _IN:
            await _run(here.plan.room(room), ["import", str(archive.folder), "--check"], tell)
        done: list[str] = []
        try:
            count = await archive.blobs.unpack(blobs, tell)
            done.append("blobs")
            reports, rebuild = {}, False
            for room in _IN:
                arguments = ["import", str(archive.folder), "--since", str(manifest.began)]
                report = await _run(here.plan.room(room), arguments + (["--rebuild"] if rebuild else []), tell)
                rebuild = rebuild or bool(report.get("rebuild"))
                reports[room] = report["rows"]
                done.append(room)
        except (BrainError, asyncio.CancelledError) as error:
            left = [name for name in ("blobs", *_IN) if name not in done]
            reason = error.message if isinstance(error, BrainError) else "The import was interrupted."
            raise Conflict(
                f"{reason}\nIn: {', '.join(done) or 'nothing'}. Not in: {', '.join(left)}. Empty the target (the state "
                "folder; or the schemas, the collection and the blobs' prefix) and import again.",
                private=error.private if isinstance(error, BrainError) else None,
            ) from error
    return {"rooms": reports, "blobs": count, "rebuild": rebuild}


def _pack_secrets(here: _Installation, archive: Archive) -> None:
    archive.secrets.mkdir(mode=0o700)
    for name, path in (here.secret_files() | {_ADMINISTRATOR: here.administrator}).items():
        if path.is_file():
            write_secret(archive.secrets / name, path.read_bytes())


def _bring_secrets(here: _Installation, archive: Archive, manifest: Manifest, *, new_secrets: bool) -> None:
    """Put the secret files in their places where the archive has them; else see that they are there already.

    Raises:
        NotFound: One is neither here nor in the archive.
        Conflict: The one that is here is another one, or the archive's cannot be written.
    """
    brought: dict[Path, bytes] = {}
    for name, path in here.secret_files().items():
        carried, said = archive.secrets / name, manifest.secrets.get(name, "")
        if path.is_file():
            if new_secrets or _fingerprint(path) == said:
                continue
            raise Conflict(
                f"{path} is not the secret that the archive's {_opened(name)} were made with. Put that file in its place, or "
                f"import with --new-secrets: then none of them works any more."
            )
        if carried.is_file():
            brought[path] = carried.read_bytes()
        elif not new_secrets:
            raise NotFound(
                f"{path} is not there, and the archive does not carry it. Bring the file that the exported installation had "
                f"in its place, without which the archive's {_opened(name)} do not work; or import with --new-secrets."
            )
    key = archive.secrets / _ADMINISTRATOR
    if key.is_file() and not here.administrator.exists():
        brought[here.administrator] = key.read_bytes()
    for path, secret in brought.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_secret(path, secret)
        except OSError as error:
            raise Conflict(
                f"{path} cannot be written ({error.strerror}); put the archive's secrets/{path.name} there."
            ) from error


def _opened(name: str) -> str:
    return "API keys" if name.startswith("api-keys") else "secrets of webhooks"


def _fingerprint(path: Path) -> str:
    """Return what tells a secret from another one, and nothing of it; empty where there is none."""
    if not path.is_file():
        return ""
    return hmac.new(path.read_bytes(), b"corporate-brain archive", hashlib.sha256).hexdigest()[:32]


async def _run(room: RoomPlan, arguments: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Run a room's own command and return what it reports.

    Raises:
        Conflict: It could not do it.
    """
    process = await asyncio.create_subprocess_exec(
        *room.command,
        *arguments,
        env=dict(room.environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(process.stderr.read())
    report: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            said = json.loads(line)
            if "progress" in said:
                step = said["progress"]
                tell(f"{room.name}: {step['what']}", step["done"], step["total"])
            else:
                report = said
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if status != 0 or not report:
        reason = (await complaints).decode(errors="replace").strip()[-_MAX_REASON:]
        raise Conflict(reason or f"{room.name}: {' '.join(arguments[:1])} ended with status {status}.")
    await complaints
    tell(f"{room.name}: done", 1, 1)
    return report
