"""The chat room: answers one turn of a conversation from passages, with validated citations.

Does: makes search queries from the turn and its history, finds passages, builds the prompt within the model's window,
streams the text, cites what the passages support, refuses what they do not, and keeps conversations, receipts and what
people think of answers: thumbs, better answers, rankings of sampled answers.
Needs: the retrieval room (search, embeddings, stored text by offsets), the generation room (tokens, token counts), one
SQL database, a blob store, the event log. Publishes: `brain.answer.v1` (a turn came to its end), `brain.feedback.v1`
(an answer was judged, a judgement was taken back); `ChatService`, `ConversationService`, `ReceiptService` and
`FeedbackService` over gRPC.
"""
