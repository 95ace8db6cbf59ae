"""The words and rules of the finetuning room; pure."""
