"""The child process that trains: one plan in, a stream of messages and an adapter out."""
