"""What `import drpm` gives."""

import ast
import inspect
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import drpm


def test_everything_exported_exists():
    for name in drpm.__all__:
        part = getattr(drpm, name)
        assert part is not None
        for inner in getattr(part, "__all__", ()):
            assert getattr(part, inner) is not None


def test_docstrings_follow_the_template():
    for name in drpm.ops.__all__:
        if name.islower():
            text = inspect.getdoc(getattr(drpm.ops, name))
            missing = [part for part in ("Args:", "Returns:", "Gradient:", "Raises:") if part not in text]
            assert not missing, f"{name}: {missing}"


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = drpm.nothing


def test_reference_works_without_compiled_kernels_and_ops_say_what_to_do():
    code = (
        "import sys; sys.modules['drpm._C'] = None\n"  # what a checkout without a compiler looks like
        "import torch, drpm\n"
        "print(drpm.reference.relaxed_sort(torch.tensor([0.0, 1.0])).shape)\n"
        "try:\n    drpm.ops\nexcept ImportError as error:\n    print(error)\n"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "torch.Size([2, 2])" in out
    assert "pip install -e ." in out and "drpm.reference works without" in out


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("sys.modules['torch'] = None", "drpm needs torch 2.11 or newer, which is not installed"),
        (
            "sys.modules['drpm._C'] = None; import torch; torch.__version__ = '2.9.1+cpu'",
            "drpm: needs torch 2.11 or newer, found 2.9.1+cpu",
        ),
    ],
)
def test_missing_and_old_torch_are_named(before, message):
    code = f"import sys; {before}\nimport drpm\ndrpm.ops"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert failed.returncode == 1
    assert message in failed.stderr.splitlines()[-1]


def test_the_wheel_holds_the_package_alone(tmp_path):
    """No experiments, no YAML: those are for a checkout."""
    root, copy = Path(__file__).parents[1], tmp_path / "checkout"  # a copy: a build leaves files behind
    unwanted = shutil.ignore_patterns("__pycache__", "*.so")
    for folder in ("drpm", "experiments", "_build"):
        shutil.copytree(root / folder, copy / folder, ignore=unwanted)
    for file in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(root / file, copy)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    environment = os.environ | {"DRPM_KERNELS": "0"}
    subprocess.run([sys.executable, "-c", build], cwd=copy, env=environment, check=True, capture_output=True)
    (wheel,) = (copy / "dist").glob("*.whl")
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    package = {name for name in names if name.parts[0] == "drpm"}
    others = {name.parts[0] for name in set(names) - package}
    assert len(others) == 1 and others.pop().endswith(".dist-info")
    assert {name.suffix for name in package} == {".py", ".pyi", ".typed"}
    assert Path("drpm/training/provenance.py") in package


def test_the_package_does_not_know_the_experiments():
    """Nothing below the experiments imports them, and only their tests import the benchmarks."""
    root = Path(__file__).parents[1]
    for folder, unknown in (("drpm", ("experiments", "benchmarks")), ("experiments", ("benchmarks",))):
        for path in (root / folder).rglob("*.py"):
            words = [
                line.split()[1]
                for line in path.read_text().splitlines()
                if line.lstrip().startswith(("from ", "import "))
            ]
            assert not [word for word in words if word.split(".")[0] in unknown], path


def test_stub_names_what_the_compiled_module_has():
    stub = ast.parse((Path(__file__).parents[1] / "drpm" / "_C.pyi").read_text())
    named = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    named |= {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert named == {name for name in dir(drpm._build_info._C) if not name.startswith("_")}
