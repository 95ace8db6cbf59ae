"""One class per verb of the chat room."""
