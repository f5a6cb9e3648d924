"""Command line: `python -m experiments NAME [options]`, `… report`, `… list`."""

import argparse
import os
import sys
from pathlib import Path

from experiments.runner.configuration import build, parse_settings, read_row, rows
from experiments.runner.registry import EXPERIMENTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description="Train the experiments of the thesis, and rebuild every table and figure from their results.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")
    for name in EXPERIMENTS:
        command = commands.add_parser(
            name,
            help=f"run one row of {name} with one seed",
            description=f"Rows: {', '.join(rows(name))}. Ctrl-C stops after the current step; --resume goes on.",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        option = command.add_argument
        option("--row", required=True, help="row of the table, or a .yaml file")
        option("--seed", type=int, default=0, help="decides weights, batches and noise")
        option("--set", action="append", default=[], metavar="NAME=VALUE", help="change one option of the row")
        option("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
        option("--out", type=Path, default=None, help="folder of the run; None: out/NAME/ROW/seedS")
        option("--results", type=Path, default=None, help="also write NAME/ROW/seedS.json into this folder")
        option("--checkpoint-seconds", type=float, default=60.0, help="longest time between checkpoints")
        option("--log-every", type=int, default=10, help="steps per line of log.jsonl")
        option("--device", default="cpu", help="cpu or cuda")
        option("--threads", type=int, default=min(2, os.cpu_count() or 1), help="CPU threads of torch")
        option("--no-tensorboard", action="store_true", help="write no TensorBoard events")
    queue = commands.add_parser(
        "queue",
        help="make the runs of experiments/queue.txt that have no result, one after the other",
        description="Ctrl-C stops after the current step; the same command goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    queue.add_argument("--results", type=Path, default=Path("results"), help="where results are and go")
    queue.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    queue.add_argument("--list", action="store_true", help="only print the runs that are left")
    report = commands.add_parser("report", help="rebuild every table and figure of docs/ from results/")
    report.add_argument("--root", type=Path, default=Path(), help="checkout with results/ and docs/")
    report.add_argument("--check", action="store_true", help="change nothing; fail where a table is stale")
    commands.add_parser("list", help="print experiments and their rows")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; give its exit status."""
    parsed = _parser().parse_args(arguments)
    if parsed.command == "list":
        for name in EXPERIMENTS:
            print(name, *rows(name), sep="\n  ")
        return 0
    if parsed.command == "report":
        from experiments.runner.report import rebuild

        return rebuild(parsed.root, check=parsed.check)
    if parsed.command == "queue":
        return _queue(parsed)
    return _run(parsed)


def _queue(parsed: argparse.Namespace) -> int:
    from experiments.runner.queue import Run, in_process, make_runs, read_queue

    def make(run: Run) -> int:
        if parsed.list:
            return 0
        words = [run.experiment, "--row", run.row, "--seed", str(run.seed), "--threads", str(parsed.threads)]
        words += ["--results", str(parsed.results), "--resume", "--no-tensorboard"]
        words += [word for setting in run.settings for word in ("--set", setting)]
        # A process for each: its peak memory and its random states are its own.
        return in_process([sys.executable, "-m", "experiments", *words])

    return make_runs(read_queue(), parsed.results, make)


def _run(parsed: argparse.Namespace) -> int:
    from drpm.training.interrupt import Interrupted
    from drpm.training.loop import Options
    from experiments.runner.runner import run

    name = parsed.command
    try:
        kind = EXPERIMENTS[name].load()
        values = read_row(name, parsed.row) | parse_settings(parsed.set) | {"seed": parsed.seed}
        row = Path(parsed.row).stem
        place = Path(name) / row / f"seed{parsed.seed}"
        options = Options(
            out=parsed.out or Path("out") / place,
            result=parsed.results and parsed.results / place.with_suffix(".json"),
            resume=parsed.resume,
            checkpoint_seconds=parsed.checkpoint_seconds,
            log_every=parsed.log_every,
            tensorboard=not parsed.no_tensorboard,
            device=parsed.device,
            threads=parsed.threads,
        )
        run(kind, build(kind.Config, values, name), options, row)
    except Interrupted:
        print("Stopped; go on with the same command and --resume.", file=sys.stderr)
        return 130
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
