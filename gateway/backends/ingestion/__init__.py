"""The ingestion room over gRPC."""

from gateway.backends.ingestion.room import IDEMPOTENT, GrpcIngestion

__all__ = ["IDEMPOTENT", "GrpcIngestion"]
