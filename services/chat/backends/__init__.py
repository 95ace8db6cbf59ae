"""One file for each choice: the rooms that are called, the database, the prompt files."""
