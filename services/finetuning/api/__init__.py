"""How callers reach the room: wire to domain and back, nothing more."""
