"""Command line: `python -m drpm demo`."""

import argparse
import sys

from drpm.experiments import demo


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; give its exit status."""
    parser = argparse.ArgumentParser(prog="python -m drpm", description="Differentiable random partition models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo.add_command(commands)
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed)
    return status


if __name__ == "__main__":
    sys.exit(main())
