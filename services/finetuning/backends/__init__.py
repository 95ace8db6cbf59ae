"""One module for each choice behind a port of the finetuning room."""
