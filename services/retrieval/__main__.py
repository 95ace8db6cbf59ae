"""Start the room, change its embedder, or carry its part: `python -m services.retrieval [all|serve|index|reembed|export|import]`."""

import sys

from services.retrieval.bootstrap import main

if __name__ == "__main__":
    main(sys.argv[1:])
