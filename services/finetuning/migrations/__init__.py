"""History of the room's database."""
