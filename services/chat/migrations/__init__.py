"""The history of the chat room's tables."""
