"""Stored conversations: a conversation is its owner's alone."""

from services.chassis.auth import Caller
from services.chassis.errors import InvalidInput, NotFound
from services.chat.domain.receipts import Conversation
from services.chat.ports import Records
from services.chat.usecases.judging import RemoveLooseBlobs

_DEFAULT_LIMIT = 20
_MOST = 100


def _not_found(conversation_id: str) -> NotFound:
    return NotFound(f"No conversation {conversation_id!r}.", param="conversation_id")


class ListConversations:
    """Lists the caller's conversations.

    Args:
        records: Where they are kept.
    """

    def __init__(self, *, records: Records) -> None:
        self._records = records

    async def __call__(self, caller: Caller, *, limit: int, after: str) -> tuple[list[Conversation], bool]:
        """Return a page, newest first, and whether more follow.

        Raises:
            InvalidInput: The limit is out of range.
        """
        if limit > _MOST:
            raise InvalidInput(f"limit is {limit}; allowed are 1 to {_MOST}.", param="limit")
        wanted = limit or _DEFAULT_LIMIT
        found = await self._records.conversations(
            tenant=caller.tenant, owner=caller.subject, limit=wanted + 1, after=after
        )
        return found[:wanted], len(found) > wanted


class GetConversation:
    """Returns one conversation.

    Args:
        records: Where they are kept.
    """

    def __init__(self, *, records: Records) -> None:
        self._records = records

    async def __call__(self, caller: Caller, conversation_id: str) -> Conversation:
        """Return it with its turns.

        Raises:
            NotFound: There is none, or it is another's.
        """
        found = await self._records.conversation(conversation_id, tenant=caller.tenant, owner=caller.subject)
        if found is None:
            raise _not_found(conversation_id)
        return found


class DeleteConversation:
    """Removes one conversation with its receipts, and what was said of its answers.

    Args:
        records: Where they are kept.
        remove_loose: Removes the blobs of judgements.
    """

    def __init__(self, *, records: Records, remove_loose: RemoveLooseBlobs) -> None:
        self._records = records
        self._remove_loose = remove_loose

    async def __call__(self, caller: Caller, conversation_id: str) -> tuple[int, int]:
        """Return the numbers of turns and receipts removed.

        Raises:
            NotFound: There is none, or it is another's.
        """
        gone = await self._records.delete_conversation(conversation_id, tenant=caller.tenant, owner=caller.subject)
        if gone is None:
            raise _not_found(conversation_id)
        await self._remove_loose()
        return gone
