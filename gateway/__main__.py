"""Starts the gateway, or runs one of its commands: `python -m gateway [serve|create-key|set-quota|openapi|export|import]`."""

import sys

from gateway.bootstrap import main

if __name__ == "__main__":
    main(sys.argv[1:])
