"""Command line: run (the default), table, plot, list, overhead."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine
from benchmarks.cases import DEFAULT_OPS, GRIDS, VARIANTS, grid_cases
from benchmarks.results import Results

if TYPE_CHECKING:
    from benchmarks.runner import Settings

COMMANDS = ("run", "table", "plot", "list", "overhead")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the kernels of drpm beside the plain PyTorch reference and other packages. "
        "Without a command: run.",
        epilog="`python -m benchmarks COMMAND --help` explains the options; docs/benchmarks.md what is measured.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="measure a grid", description="Measure a grid, one child process per case.")
    _selection(run)
    run.add_argument("--output", type=Path, help="result file (default out/benchmarks/GRID.json)")
    run.add_argument("--resume", action="store_true", help="keep the finished cases of the result file")
    run.add_argument("--threads", type=int, default=2, help="threads of every contestant (default 2)")
    run.add_argument("--seconds", type=float, default=1.0, help="time per contestant and direction (default 1)")
    run.add_argument("--rounds", type=int, default=15, help="most repetitions that a median is taken of (default 15)")
    run.add_argument("--cap", type=float, default=60.0, help="seconds after which one call is too slow (default 60)")
    run.add_argument("--check-cap", type=float, default=300.0, help="the same for checks and compilation (default 300)")
    run.add_argument("--memory", type=float, help="memory limit of a case in GB (default: 70%% of what is free)")
    run.add_argument("--no-infer", action="store_true", help="try what a smaller case showed to be too slow or too big")

    table = commands.add_parser("table", help="print a result file as markdown tables")
    table.add_argument("file", type=Path)
    table.add_argument("--op")
    table.add_argument("--variant")
    table.add_argument("--columns", type=_names, help="contestants to show, comma separated")
    table.add_argument("--no-memory", action="store_true")
    table.add_argument("--no-notes", action="store_true")

    plot = commands.add_parser("plot", help="draw time and memory against n")
    plot.add_argument("file", type=Path, nargs="+", help="several are drawn as one")
    plot.add_argument("--op", type=_names, default=("partition",), help="comma separated: one row of panels each")
    plot.add_argument("--variant")
    plot.add_argument("--batch", type=int, help="default: the first in the file")
    plot.add_argument("--classes", type=int, help="default: the first in the file")
    plot.add_argument("--forward", action="store_true", help="forward only (default: forward + backward)")
    plot.add_argument("--columns", type=_names, help="contestants to show, comma separated")
    plot.add_argument("--output", type=Path, default=Path("out/benchmarks/plot.png"))

    overhead = commands.add_parser("overhead", help="where the microseconds of a small call go")
    overhead.add_argument("--ops", type=_names)
    overhead.add_argument("--threads", type=int, default=2)
    overhead.add_argument("--calls", action="store_true", help="name every operator that the public function calls")

    _selection(commands.add_parser("list", help="print the cases and contestants of a grid"))
    return parser


def _selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grid", choices=GRIDS, default="small")
    parser.add_argument("--ops", type=_names, help=f"of: {', '.join(VARIANTS)} (default: those of the grid)")
    parser.add_argument("--variants", type=_names, help="such as hard, soft, merged, exact (default: all)")
    parser.add_argument("--dtypes", type=_names, default=("float32",), help="float32, float64")
    parser.add_argument("--tau", type=float, default=0.5, help="temperature (default 0.5)")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=MAX", help="such as n=4096 or B=64")
    parser.add_argument("--columns", type=_names, help="contestants, comma separated (default: without the optional)")
    parser.add_argument("--peers", action="store_true", help="the optional contestants too, where installed")
    parser.add_argument("--original", metavar="PATH", help="folder with checkouts of the authors' drpm and mvhg")
    parser.add_argument("--plugin", action="append", default=[], help="Python file that registers contestants")


def _cases(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list:
    unknown = set(options.ops or ()) - set(VARIANTS)
    if unknown:
        parser.error(f"--ops must be of {', '.join(VARIANTS)}, got {', '.join(sorted(unknown))}")
    try:
        cases = grid_cases(options.grid, options.ops, options.variants, options.dtypes, options.tau)
    except ValueError as error:
        parser.error(str(error))
    for limit in options.limit:
        name, _, largest = limit.partition("=")
        if not largest.isdigit():
            parser.error(f"--limit must be NAME=MAX, got {limit}")
        cases = [case for case in cases if case.get(name, 0) <= int(largest)]
    if not cases:
        parser.error(f"no case left: grid {options.grid} has {', '.join(DEFAULT_OPS[options.grid])}")
    return cases


def _settings(options: argparse.Namespace) -> Settings:
    from benchmarks.runner import Settings

    return Settings(
        columns=options.columns, peers=options.peers, original=options.original, plugins=tuple(options.plugin)
    )


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from tqdm import tqdm

    from benchmarks.runner import run_cases

    cases = _cases(options, parser)
    settings = _settings(options)
    settings.threads, settings.cap, settings.check_cap = options.threads, options.cap, options.check_cap
    settings.seconds, settings.rounds, settings.infer = options.seconds, options.rounds, not options.no_infer
    available = machine.memory_available()
    settings.memory_limit = int(options.memory * 2**30) if options.memory else int(0.7 * available)
    path = options.output or Path(f"out/benchmarks/{options.grid}.json")
    head = {**machine.describe(settings.threads), "settings": settings.to_json()}
    results = Results(path, head)
    if path.exists():
        if options.resume:
            results = Results.load(path)
            for key in ("cpu", "threads", "torch"):
                if results.head[key] != head[key]:
                    parser.error(f"--resume: {path} was measured with {key} {results.head[key]}, here {head[key]}")
        else:
            path.replace(path.with_suffix(".previous.json"))
    with tqdm(total=len(cases), unit="case", dynamic_ncols=True) as progress:
        run_cases(cases, settings, results, progress)
    print(f"{path}: {len(results.cases)} cases; python -m benchmarks table {path}")


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0] not in COMMANDS and arguments[0] not in ("-h", "--help")):
        arguments = ["run", *arguments]
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "run":
        _run(options, parser)
    elif options.command == "list":
        from benchmarks import registry
        from benchmarks.runner import choose_columns

        for path in options.plugin:
            registry.load_plugin(path)
        for case in _cases(options, parser):
            names, absent = choose_columns(case, _settings(options))
            print(case.key, "|", ", ".join(names), *(f"| {name}: {why}" for name, why in absent.items()))
    elif options.command == "table":
        from benchmarks.report import render

        shown = render(
            Results.load(options.file),
            options.op,
            options.variant,
            options.columns,
            memory=not options.no_memory,
            with_notes=not options.no_notes,
        )
        print(shown, end="")
    elif options.command == "overhead":
        from benchmarks.overhead import render as render_overhead

        print(render_overhead(options.ops, options.threads, options.calls), end="")
    else:
        from benchmarks.plot import plot

        fixed = {key: value for key, value in (("B", options.batch), ("K", options.classes)) if value is not None}
        direction = "forward" if options.forward else "forward+backward"
        try:
            results = Results.load(options.file[0])
            for more in options.file[1:]:
                results = results.merged(Results.load(more))
            plot(
                results,
                options.output,
                options.op,
                options.variant,
                fixed,
                direction,
                options.columns,
            )
        except ValueError as error:
            parser.error(str(error))
        print(options.output)


if __name__ == "__main__":
    main()
