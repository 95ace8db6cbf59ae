"""Start the room, or change its embedder: `python -m services.retrieval [all|serve|index|reembed]`."""

import sys

from services.retrieval.bootstrap import main

if __name__ == "__main__":
    main(sys.argv[1:])
