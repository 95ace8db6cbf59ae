"""The chat room: answers one turn of a conversation from passages, with validated citations.

Does: makes search queries from the turn and its history, finds passages, builds the prompt within the model's window,
streams the text, cites what the passages support, refuses what they do not, and keeps conversations and receipts.
Needs: the retrieval room (search, embeddings, stored text by offsets), the generation room (tokens, token counts), one
SQL database. Publishes: nothing on the event log; `ChatService`, `ConversationService` and `ReceiptService` over gRPC.
"""
