"""Rooms over gRPC, and the gateway's memory in its own database."""
