"""The words and the rules of a turn; pure."""
