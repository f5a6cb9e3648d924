"""Command line: `drpm check`, `drpm demo` (or `python -m drpm ...`)."""

import argparse
import sys

from drpm import check
from drpm._build_info import require_compiled


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; give its exit status."""
    parser = argparse.ArgumentParser(prog="drpm", description="Differentiable random partition models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check.add_command(commands)
    _add_commands_that_need_kernels(commands)
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed)
    return status


def _add_commands_that_need_kernels(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    try:
        require_compiled()
    except ImportError as error:
        reason = str(error)

        def say_why(_: argparse.Namespace) -> int:
            print(reason, file=sys.stderr)
            return 2

        commands.add_parser("demo", help="needs the compiled kernels").set_defaults(run=say_why)
        return
    from drpm.demo import command

    command.add_command(commands)


if __name__ == "__main__":
    sys.exit(main())
