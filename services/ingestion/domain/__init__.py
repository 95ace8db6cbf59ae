"""The words and rules of ingestion; pure."""
