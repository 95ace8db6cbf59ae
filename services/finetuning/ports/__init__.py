"""What finetuning needs from the world."""
