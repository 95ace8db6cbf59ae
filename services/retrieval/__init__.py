"""Retrieval: passages for queries, under the reader's rights.

Does: embeds texts, indexes chunked documents, searches by meaning and by words at once, reranks, and explains.
Needs: a database, the blob store, the event log, an index.
Hears: `brain.document.v1`. Publishes: `brain.index.v1` (version indexed, document removed, version rejected).
"""
