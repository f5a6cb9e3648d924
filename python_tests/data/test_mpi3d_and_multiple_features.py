"""Loaders of data with several views: mpi3d's file format, the six descriptions of the UCI digits; damaged files."""

import numpy as np
import pytest
import torch

from drpm.data.mpi3d import MPI3D
from drpm.data.multiple_features import VIEWS, WIDTHS, load_multiple_features


def test_mpi3d_file_is_read_by_factor_values(tmp_path):
    sizes = (2, 1, 2, 1, 1, 2, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "mpi3d_tiny.npz", images=pixels)
    opened = MPI3D(tmp_path / "mpi3d_tiny.npz", sizes=sizes)
    factors = torch.cartesian_prod(*(torch.arange(size) for size in sizes))
    shuffled = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    images = opened.images(factors[shuffled].reshape(4, 6, 7))
    wanted = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(images.reshape(24, 3, 64, 64), wanted[shuffled])
    assert torch.equal(MPI3D(tmp_path / "mpi3d_tiny.npy", sizes=sizes).images(factors), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mpi3d_tiny.npy", "mpi3d_tiny.npz"]
    with pytest.raises(ValueError, match=r"number of images must be .*1036800.*, got 24"):
        MPI3D(tmp_path / "mpi3d_tiny.npz")
    with pytest.raises(ValueError, match=r"factors must lie in \[0, s\)"):
        opened.images(torch.full((1, 7), 3))
    with pytest.raises(FileNotFoundError, match="path must be an mpi3d"):
        MPI3D(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", pictures=pixels)
    with pytest.raises(ValueError, match="must hold an array `images`"):
        MPI3D(tmp_path / "other.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_mpi3d_files_are_named_and_leave_nothing(tmp_path, save):
    sizes = (2, 1, 2, 1, 1, 2, 3)
    save(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8))
    whole = (tmp_path / "x.npz").read_bytes()
    middle = len(whole) // 2
    for content in (whole[:-100], whole[:middle], whole[:middle] + bytes(64) + whole[middle + 64 :], b""):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"MPI3D: path must be a whole \.npz file, got .*x\.npz \((BadZip|error)"):
            MPI3D(tmp_path / "x.npz", sizes=sizes)
        assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    (tmp_path / "x.npz").write_bytes(whole)
    MPI3D(tmp_path / "x.npz", sizes=sizes)
    unpacked = (tmp_path / "x.npy").read_bytes()
    for content in (unpacked[:-100], unpacked[:40], whole, b""):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"MPI3D: path must be a whole \.npy file, got .*x\.npy \((Value|EOF)Error: "
        ):
            MPI3D(tmp_path / "x.npy", sizes=sizes)


def write_views(folder, rows=4, labels=None):
    rng = np.random.default_rng(0)
    for name in VIEWS:
        table = np.column_stack([rng.normal(size=(rows, WIDTHS[name])), np.arange(rows) if labels is None else labels])
        header = ",".join(str(k) for k in range(WIDTHS[name])) + ",0"
        np.savetxt(folder / f"mfeat-{name}.csv", table, delimiter=",", header=header, comments="")


def test_six_views_are_read_from_a_folder(tmp_path):
    write_views(tmp_path)
    loaded = load_multiple_features(tmp_path)
    assert {name: view.shape[1] for name, view in loaded.views.items()} == WIDTHS
    assert loaded.labels.tolist() == [0, 1, 2, 3]
    (tmp_path / "mfeat-zer.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold mfeat-zer\.csv"):
        load_multiple_features(tmp_path)


def test_views_that_are_no_numbers_are_named(tmp_path):
    write_views(tmp_path)
    (tmp_path / "mfeat-kar.csv").write_text("a,b\n1,x\n")
    with pytest.raises(
        ValueError, match=r"load_multiple_features: path must be a whole table .*mfeat-kar\.csv \(ValueError"
    ):
        load_multiple_features(tmp_path)


def test_views_of_other_digits_are_refused(tmp_path):
    write_views(tmp_path)
    text = (tmp_path / "mfeat-mor.csv").read_text().splitlines()
    (tmp_path / "mfeat-mor.csv").write_text("\n".join([text[0], *text[:0:-1]]) + "\n")
    with pytest.raises(ValueError, match=r"mfeat-mor\.csv must have the labels of mfeat-fou\.csv"):
        load_multiple_features(tmp_path)
