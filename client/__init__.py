"""The `brain` command: a client of the gateway's HTTP API, and of nothing else.

Needs an address and an API key (`BRAIN_URL`, `BRAIN_API_KEY`, or those of the stack running on this machine).
"""
