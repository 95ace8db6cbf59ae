"""The ingestion room: bytes in, chunk events out.

Does: keeps files by content, collections, documents with versions, access lists and deletion receipts; reads each
document in a child process, cuts it into chunks and announces them; ends every document INDEXED or FAILED.
Needs: a database, a blob store, the event log, and retrieval's WithholdService for what must hold at once.
Publishes: `brain.document.v1` (chunked, deleted, access_changed, attributes_changed). Hears: `brain.index.v1`.
"""
