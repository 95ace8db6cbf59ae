"""Work that outlives a request: the job table, which is the truth, and the worker that empties it."""
