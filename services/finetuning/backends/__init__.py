"""One module for each choice behind a port."""
