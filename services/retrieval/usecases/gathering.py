"""Hits that the reader may see: the index proposes, the register decides, and what it took away is refilled."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.retrieval.domain import DocumentState, Filter, Hit, Reader
from services.retrieval.ports import Register
from services.retrieval.telemetry import Metrics

__all__ = ["Admitted", "Gather"]

# Each refill asks four times as deep: 64 times the first depth covers whatever a big deletion leaves behind.
_MAX_ROUNDS: Final = 4
_DEEPER: Final = 4


@dataclass(frozen=True, slots=True)
class Admitted:
    """Hits in the index's order, and the states of their documents."""

    hits: tuple[Hit, ...]
    states: Mapping[str, DocumentState]


class Gather:
    """Asks the index until enough hits pass the register.

    Args:
        register: Table of active versions and access revisions.
        metrics: Where refills and leaks are counted.
    """

    def __init__(self, *, register: Register, metrics: Metrics) -> None:
        self._register = register
        self._metrics = metrics

    async def run(
        self,
        reader: Reader,
        collection_ids: Sequence[str],
        condition: Filter | None,
        ask: Callable[[int], Awaitable[list[Hit]]],
        depth: int,
        *,
        index: str,
    ) -> Admitted:
        """Return up to `depth` admitted hits of the ranking that `ask(limit)` gives.

        Raises:
            IndexMoved: `index`, which is asked, is not live any more.
        """
        limit = depth
        admitted = Admitted((), {})
        for attempt in range(_MAX_ROUNDS):
            if attempt:
                self._metrics.refills.inc()
            hits = await ask(limit)
            # After the index: a version that was flipped since then is seen as stale, and asked for again.
            found = list(dict.fromkeys(hit.document_id for hit in hits))
            states = await self._register.look_up(reader.tenant, found, index=index)
            kept = [
                hit for hit in hits if self._admits(reader, collection_ids, condition, hit, states.get(hit.document_id))
            ]
            admitted = Admitted(tuple(kept[:depth]), states)
            stale = {hit.document_id for hit in hits if _is_stale(hit, states.get(hit.document_id))}
            if stale - {hit.document_id for hit in kept} and attempt == 0:
                # The new version was written before the flip that made the old one stale: it is there by now.
                continue
            if len(kept) >= depth or len(hits) < limit:
                break
            limit *= _DEEPER
        return admitted

    def _admits(
        self,
        reader: Reader,
        collection_ids: Sequence[str],
        condition: Filter | None,
        hit: Hit,
        state: DocumentState | None,
    ) -> bool:
        if state is None or not state.is_searchable or hit.version != state.active_version:
            return False
        if state.collection_id not in collection_ids:
            return False
        if not reader.may_read(state.principals):
            if hit.access_revision >= state.access_revision:
                # The index knew the list in force and still let it through.
                self._metrics.acl_leak.inc()
            return False
        return condition is None or condition.matches(state.attributes)


def _is_stale(hit: Hit, state: DocumentState | None) -> bool:
    return state is not None and state.is_searchable and hit.version != state.active_version
