"""Base models on this machine: the packaged one, local folders, and names on the hub, as folders in the Hugging Face layout."""
