"""One file per choice: engines, the packaged model, the table of adapters and the inspection of their files."""
