"""What callers, events and jobs make the room do."""
