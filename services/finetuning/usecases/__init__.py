"""What callers, events and jobs make the room do; one class for each verb or group of verbs on one thing."""
