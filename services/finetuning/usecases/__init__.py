"""The verbs of the finetuning room."""
