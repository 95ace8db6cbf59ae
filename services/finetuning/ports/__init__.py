"""What the finetuning room needs from the world."""
