"""The chat room over gRPC."""

from gateway.backends.chat import feedback, room
from gateway.backends.chat.feedback import GrpcFeedback
from gateway.backends.chat.room import GrpcChat

__all__ = ["IDEMPOTENT", "GrpcChat", "GrpcFeedback"]

IDEMPOTENT = (*room.IDEMPOTENT, *feedback.IDEMPOTENT)
