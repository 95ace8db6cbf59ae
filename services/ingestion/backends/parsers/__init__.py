"""Parsers, one module for each format; they run in the sandboxed child process and import nothing of the room's wire."""
