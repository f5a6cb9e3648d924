"""Build sdist and wheel, install each in a fresh environment, and use them as a reader of the README would.

`make release-check`. In each environment `drpm check` must pass and the README's lines must print what the README
shows. Environments see nothing of the checkout. `--torch here` lends them the torch of this environment.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT / "build" / "release"


def run(*command: str | Path, cwd: Path = RELEASE) -> str:
    print("$", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\ncheck_release: `{command[0]}` failed with {done.returncode}")
    return done.stdout


def build() -> list[Path]:
    """The sdist, and from it the wheel."""
    shutil.rmtree(RELEASE, ignore_errors=True)
    RELEASE.mkdir(parents=True)
    run(sys.executable, "-m", "build", "--outdir", RELEASE, ROOT)
    return [next(RELEASE.glob("*.tar.gz")), next(RELEASE.glob("*.whl"))]


def environment(name: str, torch: str) -> Path:
    """A fresh virtual environment with torch; its python."""
    folder = RELEASE / name
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    if torch == "here":
        import torch as module

        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        (site / "lent.pth").write_text(f"{Path(module.__file__).parents[1]}\n")
    else:
        run(python, "-m", "pip", "install", "--quiet", torch)
    return python


def readme() -> tuple[str, str]:
    """The README's example and what it says that it prints."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```\s+prints\s+```text\n(.*?)```", text, flags=re.DOTALL)
    return (found[1], found[2]) if found else sys.exit("check_release: the README must have an example and its output")


def check(artifact: Path, python: Path, torch: str) -> None:
    lent = ["--no-deps"] if torch == "here" else []
    run(python, "-m", "pip", "install", "--quiet", "--force-reinstall", *lent, artifact)
    where = run(python, "-c", "import drpm; print(drpm.__file__)").strip()
    if not Path(where).is_relative_to(python.parents[1]):
        sys.exit(f"check_release: drpm must come from the fresh environment, got {where}")
    print(run(python, "-m", "drpm", "check"))
    code, shown = readme()
    printed = run(python, "-c", code)
    if printed != shown:
        sys.exit(f"check_release: the README's lines must print {shown!r}, got {printed!r}")
    print(f"{artifact.name}: passes", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", default="torch", help="requirement to install, or `here`")
    torch = parser.parse_args().torch
    for artifact in build():
        kind = "wheel" if artifact.suffix == ".whl" else "sdist"
        check(artifact, environment(kind, torch), torch)
    versions = {re.search(r"drpm-(\d[\w.]*?)(?:-|\.tar)", path.name)[1] for path in RELEASE.glob("drpm-*")}  # type: ignore[index]
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    if not cited or versions != {cited[1]}:
        sys.exit(f"check_release: CITATION.cff must name the version {versions}, got {cited and cited[1]}")
    print(f"drpm {cited[1]} is ready; built with {metadata.version('build')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
