"""The finetuning room: from documents, rows and feedback to an adapter that is served.

Does: builds datasets, checks and estimates training jobs, trains them in child processes, keeps the registry of adapters
with their lineage, moves aliases by promotion, and refuses adapters whose sources went.
Needs: ingestion (files, document text), retrieval (distractors), generation (samples, judge, checks), a database, blobs, the
event log, a base model on this machine.
Publishes: gRPC `brain.finetuning.v1`; events `brain.adapter.v1`.
Hears: `brain.document.v1`, `brain.feedback.v1`, `brain.answer.v1`, `brain.verdict.v1`.
"""
