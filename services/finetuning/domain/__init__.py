"""The words of tuning and their rules."""
