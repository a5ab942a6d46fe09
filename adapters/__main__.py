"""The console script ``recovery``, also ``python -m adapters``: without its extra it says which one to install."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; exits with 2 if it cannot be imported, with 130 if that is interrupted."""
    try:
        from adapters.cli.command import main as run
    except ImportError as error:
        sys.stderr.write(f"recovery: {str(error).removeprefix('recovery ')}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # half a second may pass
        sys.stderr.write("recovery: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
