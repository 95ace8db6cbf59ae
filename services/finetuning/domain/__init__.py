"""The words and rules of finetuning; pure."""
