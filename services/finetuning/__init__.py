"""The finetuning room: training rows in, adapters out."""
