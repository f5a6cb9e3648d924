"""Command line of the demo: its options, and what they make of the configuration."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from drpm.demo.demo import run_demo
from drpm.models import ClusteringConfig
from drpm.training.interrupt import Interrupted


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `demo` and its options to the command line."""
    defaults = ClusteringConfig()
    parser = commands.add_parser(
        "demo",
        help="cluster 1,797 real handwritten digits with a learned random partition",
        description="Train the DRPM clustering model on scikit-learn's handwritten digits without labels, print ARI, "
        "NMI and accuracy on held-out digits beside the baselines, and write pictures and metrics.json. "
        "Ctrl-C stops after the current epoch and keeps the work; --resume goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--seed", type=int, default=0, help="decides the split, the weights and all noise")
    option("--out", type=Path, default=Path("out/demo"), help="folder for pictures, metrics.json and the model")
    option("--epochs", type=_positive, default=defaults.epochs, help="epochs of partition training")
    option("--quick", action="store_true", help="a short run (under a minute) that shows that everything works")
    option("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    option("--threads", type=_positive, default=min(2, os.cpu_count() or 1), help="CPU threads of torch")
    option(
        "--conditionals",
        choices=("auto", "merged", "exact"),
        default="auto",
        help="of the size sampler; auto: exact for --kl exact, else merged",
    )
    option("--kl", choices=("bound", "exact"), default=defaults.kl, help="KL divergence between partition models")
    option("--results", type=Path, default=None, help="also write metrics.json to this file")
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {value}")
    return value


def configure(arguments: argparse.Namespace) -> ClusteringConfig:
    """Give the model's configuration for the command line's options."""
    conditionals = arguments.conditionals
    if conditionals == "auto":
        conditionals = "exact" if arguments.kl == "exact" else "merged"
    config = ClusteringConfig(seed=arguments.seed, epochs=arguments.epochs, conditionals=conditionals, kl=arguments.kl)
    if arguments.quick:
        config = dataclasses.replace(
            config, pretrain_epochs=40, warm_start_epochs=30, epochs=min(20, arguments.epochs), num_samples=1
        )
    return config


def run(arguments: argparse.Namespace) -> int:
    """Run the demo from the command line; 130 when interrupted."""
    missing = _missing_packages()
    if missing:
        print(f"demo: needs {', '.join(missing)}; install with: pip install 'drpm[demo]'", file=sys.stderr)
        return 1
    try:
        run_demo(
            configure(arguments),
            arguments.out,
            resume=arguments.resume,
            threads=arguments.threads,
            results=arguments.results,
        )
    except (Interrupted, KeyboardInterrupt):
        print(f"\nInterrupted; the work up to here is in {arguments.out}. Go on with the same command and --resume.")
        return 130
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _missing_packages() -> list[str]:
    import importlib.util

    modules = {"sklearn": "scikit-learn", "scipy": "scipy", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    return [package for module, package in modules.items() if importlib.util.find_spec(module) is None]
