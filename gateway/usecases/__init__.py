"""The gateway's verbs: keys made and ended, callers known, limits held, answers repeated."""
