"""How callers reach the chat room: wire to domain and back, nothing more."""
