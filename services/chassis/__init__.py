"""The plumbing every room stands on; a closed list.

Settings, logging, telemetry, errors, caller identity, gRPC server and client, the event log with outbox and consumer,
the job table with its embedded worker, database, blobs, ids, folders of base models and life cycle. It knows no room, no
generated message and no noun of the product.
"""
