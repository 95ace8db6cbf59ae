"""One file per choice; bootstrap is the only importer."""
