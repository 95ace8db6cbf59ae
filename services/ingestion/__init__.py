"""Ingestion: bytes in, chunk events out.

Does: keeps files, collections, documents with versions and access lists; reads each document in a sandboxed child
process and cuts it into chunks with exact offsets into the stored text.
Needs: a database, a blob store, the event log, retrieval (to withhold at once).
Publishes: `brain.document.v1`.
"""
