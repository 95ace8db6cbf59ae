"""The gateway's API about training as the command uses it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from client.errors import UsageError
from client.gateway import Gateway

__all__ = ["FINAL", "Tuning", "settings"]

# States in which a training job stays.
FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
_JOBS: Final = "/v1/fine_tuning/jobs"


class Tuning:
    """Jobs, datasets, adapters, promotions and webhooks.

    Args:
        gateway: Where they are.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def training_file(self, given: str) -> str:
        """Return the id of a training file given by id or by path; one of this machine is uploaded first.

        Raises:
            UsageError: It is neither.
        """
        if given.startswith("file-"):
            return given
        path = Path(given)
        if not path.is_file():
            raise UsageError(f"{given!r} is neither a file here nor the id of one (file-…).")
        return str(self._gateway.upload_file(path, purpose="fine-tune")["id"])

    def files_of(self, dataset_id: str) -> tuple[str, str]:
        """Return the files of a dataset: the rows to train on, and those held out (empty for none).

        Raises:
            UsageError: It is not ready.
        """
        dataset = self.dataset(dataset_id)
        if dataset["status"] != "ready":
            reason = f": {dataset['error']}" if dataset["error"] else ""
            raise UsageError(f"Dataset {dataset_id} is {dataset['status']}{reason}.")
        return str(dataset["training_file"]), str(dataset["held_out_file"] or "")

    def check(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return whether a job could be trained, and the report."""
        return self._gateway.send("POST", "/brain/v1/tuning/check", body=body)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create a job."""
        return self._gateway.send("POST", _JOBS, body=body)

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        return self._gateway.send("GET", f"{_JOBS}/{job_id}")

    def jobs(self, *, notes: Mapping[str, str], most: int) -> list[dict[str, Any]]:
        """Return the newest jobs with these notes."""
        query = [("limit", str(min(most, 100))), *((f"metadata[{key}]", value) for key, value in notes.items())]
        return list(self._gateway.pages(_JOBS, query, most=most))

    def move(self, job_id: str, verb: str) -> dict[str, Any]:
        """Cancel, pause or resume a job."""
        return self._gateway.send("POST", f"{_JOBS}/{job_id}/{verb}")

    def events(self, job_id: str, *, most: int) -> list[dict[str, Any]]:
        """Return a job's newest events, newest first."""
        return list(self._gateway.pages(f"{_JOBS}/{job_id}/events", [("limit", str(min(most, 100)))], most=most))

    def checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's checkpoints, newest first."""
        return list(self._gateway.pages(f"{_JOBS}/{job_id}/checkpoints", [("limit", "100")]))

    def build(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Begin to make a dataset."""
        return self._gateway.send("POST", "/brain/v1/datasets", body=body)

    def dataset(self, dataset_id: str) -> dict[str, Any]:
        """Return a dataset."""
        return self._gateway.send("GET", f"/brain/v1/datasets/{dataset_id}")

    def datasets(self) -> list[dict[str, Any]]:
        """Return the datasets, newest first."""
        return list(self._gateway.pages("/brain/v1/datasets", [("limit", "100")]))

    def delete_dataset(self, dataset_id: str) -> dict[str, Any]:
        """Delete a dataset with its files."""
        return self._gateway.send("DELETE", f"/brain/v1/datasets/{dataset_id}")

    def adapters(self, *, document: str = "") -> list[dict[str, Any]]:
        """Return the adapters, newest first; only those that saw a document, if one is named."""
        query = [("limit", "100"), *([("document", document)] if document else [])]
        return list(self._gateway.pages("/brain/v1/adapters", query))

    def adapter(self, name: str) -> dict[str, Any]:
        """Return an adapter with its lineage."""
        return self._gateway.send("GET", f"/brain/v1/adapters/{name}")

    def import_adapter(self, file_id: str, *, suffix: str, access: Sequence[str]) -> dict[str, Any]:
        """Publish an adapter that was trained elsewhere."""
        body = {"file_id": file_id, "suffix": suffix, "access": list(access)}
        return self._gateway.send("POST", "/brain/v1/adapters", body=body)

    def judge_adapter(self, name: str, verb: str, reason: str) -> dict[str, Any]:
        """Block or accept an adapter."""
        return self._gateway.send("POST", f"/brain/v1/adapters/{name}/{verb}", body={"reason": reason})

    def retrain(self, name: str) -> dict[str, Any]:
        """Train an adapter's chain again on the rows that remain."""
        return self._gateway.send("POST", f"/brain/v1/adapters/{name}/retrain")

    def delete_adapter(self, name: str) -> dict[str, Any]:
        """Delete an adapter."""
        return self._gateway.send("DELETE", f"/brain/v1/adapters/{name}")

    def promote(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Open a promotion."""
        return self._gateway.send("POST", "/brain/v1/promotions", body=body)

    def promotion(self, promotion_id: str) -> dict[str, Any]:
        """Return a promotion with its history."""
        return self._gateway.send("GET", f"/brain/v1/promotions/{promotion_id}")

    def rollback(self, alias: str, reason: str) -> dict[str, Any]:
        """End an alias's open promotion, or move it back."""
        return self._gateway.send("POST", f"/brain/v1/aliases/{alias}/rollback", body={"reason": reason})

    def aliases(self) -> list[dict[str, Any]]:
        """Return the aliases."""
        return list(self._gateway.send("GET", "/brain/v1/aliases")["data"])

    def create_webhook(self, url: str, events: Sequence[str]) -> dict[str, Any]:
        """Keep an address that is told when jobs end; its secret is shown this once."""
        body = {"url": url, "events": [f"fine_tuning.job.{event}" for event in events]}
        return self._gateway.send("POST", "/brain/v1/webhooks", body=body)

    def webhooks(self) -> list[dict[str, Any]]:
        """Return the addresses."""
        return list(self._gateway.send("GET", "/brain/v1/webhooks")["data"])

    def delete_webhook(self, webhook_id: str) -> dict[str, Any]:
        """Forget an address."""
        return self._gateway.send("DELETE", f"/brain/v1/webhooks/{webhook_id}")


def settings(given: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return our own settings of a job: `values` that are given, and `NAME=VALUE` pairs beside them.

    A value is JSON where it can be read as such, and text otherwise; `@FILE` is what a file holds; a dot in the name
    leads inwards: `lora.dropout=0.1`.

    Raises:
        UsageError: A pair cannot be read, or says what an option says already.
    """
    made = {name: value for name, value in values.items() if value is not None and value != ""}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"--set: {pair!r} is not NAME=VALUE.")
        *outer, last = name.split(".")
        within = made
        for part in outer:
            within = within.setdefault(part, {})
            if not isinstance(within, dict):
                raise UsageError(f"--set: {name!r} leads into {part!r}, which is a value.")
        if last in within:
            raise UsageError(f"--set: {name!r} is given twice.")
        within[last] = _value(text)
    return made


def _value(text: str) -> Any:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--set: {text!r} cannot be read: {error}.") from error
    try:
        return json.loads(text)
    except ValueError:
        return text
