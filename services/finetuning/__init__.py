"""Rows in, adapters out: datasets, training jobs, the registry of adapters, promotions."""
