"""ConversationService: stored conversations."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from brain.chat.v1 import conversation_pb2, conversation_pb2_grpc
from services.chassis.auth import current_caller
from services.chat.domain.receipts import Conversation
from services.chat.usecases.conversations import DeleteConversation, GetConversation, ListConversations


def timestamp(moment: datetime) -> Timestamp:
    """Return a moment as the wire has it."""
    wire = Timestamp()
    wire.FromDatetime(moment)
    return wire


def _conversation(found: Conversation) -> conversation_pb2.Conversation:
    return conversation_pb2.Conversation(
        conversation_id=found.id,
        created_at=timestamp(found.created_at),
        updated_at=timestamp(found.updated_at),
        title=found.title,
        turns=[
            conversation_pb2.StoredTurn(
                role=turn.role, content=turn.content, receipt_id=turn.receipt_id, created_at=timestamp(turn.created_at)
            )
            for turn in found.turns
        ],
    )


class ConversationApi(conversation_pb2_grpc.ConversationServiceServicer):
    """Serves `brain.chat.v1.ConversationService`.

    Args:
        list_conversations: The use case.
        get_conversation: The use case.
        delete_conversation: The use case.
    """

    def __init__(
        self,
        *,
        list_conversations: ListConversations,
        get_conversation: GetConversation,
        delete_conversation: DeleteConversation,
    ) -> None:
        self._list = list_conversations
        self._get = get_conversation
        self._delete = delete_conversation

    async def ListConversations(
        self, request: conversation_pb2.ListConversationsRequest, context: Any
    ) -> conversation_pb2.ListConversationsResponse:
        """List the caller's conversations."""
        found, more = await self._list(current_caller(), limit=request.limit, after=request.after)
        return conversation_pb2.ListConversationsResponse(
            conversations=[_conversation(one) for one in found], has_more=more
        )

    async def GetConversation(
        self, request: conversation_pb2.GetConversationRequest, context: Any
    ) -> conversation_pb2.GetConversationResponse:
        """Return one conversation."""
        found = await self._get(current_caller(), request.conversation_id)
        return conversation_pb2.GetConversationResponse(conversation=_conversation(found))

    async def DeleteConversation(
        self, request: conversation_pb2.DeleteConversationRequest, context: Any
    ) -> conversation_pb2.DeleteConversationResponse:
        """Remove one conversation."""
        turns, receipts = await self._delete(current_caller(), request.conversation_id)
        return conversation_pb2.DeleteConversationResponse(turns_removed=turns, receipts_removed=receipts)
