"""The one door: HTTP in (OpenAI, Cohere and native dialects), gRPC to the rooms behind.

Does: authenticates API keys, decides who may use which route, limits, meters, keeps the audit log, and translates
between dialects and rooms. Knows nothing of prompts or chunks.
Needs: the ingestion, retrieval, chat and generation rooms; a database of its own; the private key of internal tokens.
Publishes: no events.
"""
