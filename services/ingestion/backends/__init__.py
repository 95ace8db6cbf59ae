"""What ingestion stands on, one module for each choice; imported by bootstrap alone."""
