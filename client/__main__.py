"""The `brain` command. Exit status: 0 done, 1 failed, 2 usage, 3 not in the documents, 4 not found, 5 unreachable, 6 refused."""

import sys

from rich.console import Console
from rich.text import Text

from client.commands import app
from client.errors import EXIT_STATUS, GatewayError

__all__ = ["main"]


def main() -> None:
    """Run the command; an error is one red line, never a traceback."""
    try:
        app()
    except GatewayError as error:
        told = Text.assemble((f"{type(error).__name__}:", "red"), f" {error}")
        Console(stderr=True, soft_wrap=True).print(told, highlight=False)
        sys.exit(EXIT_STATUS.get(type(error), 1))


if __name__ == "__main__":
    main()
