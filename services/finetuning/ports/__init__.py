"""What the room needs from the world."""
