"""Views with shared factors, and the images of factor values: the rendered arm, mpi3d's file format, six real views."""

import numpy as np
import pytest
import torch

from drpm.data.arm_scene import ArmScene, render_all
from drpm.data.factors import held_out_images, sample_split_views, sample_views
from drpm.data.mpi3d import MPI3D
from drpm.data.multiple_features import VIEWS, WIDTHS, load_multiple_features

SIZES = (5, 4, 7, 100, 3)


@pytest.mark.parametrize("shared", [0, 1, 3, 5])
def test_views_share_the_chosen_number_of_factors(shared):
    views = sample_views(SIZES, 400, shared, seed=1)
    assert views.factors.shape == (400, 2, 5)
    assert ((views.group == 0).sum(dim=1) == shared).all()
    same = views.factors[:, 0] == views.factors[:, 1]
    assert same[views.group == 0].all()
    assert (views.factors >= 0).all() and (views.factors < torch.tensor(SIZES)).all()
    private = (~same[:, 3])[views.group[:, 3] == 1]  # 100 values: seldom equal by chance
    assert len(private) == 0 or private.float().mean() > 0.9


def test_groups_of_views_share_their_own_factors():
    views = sample_views(SIZES, 500, [((0, 1, 2), 2), ((0, 2), 1)], views=3, seed=0)
    assert (torch.stack([(views.group == g).sum(1) for g in range(3)], 1) == torch.tensor([2, 1, 2])).all()
    a, b, c = views.factors.unbind(1)
    assert ((a == b) & (b == c))[views.group == 0].all()
    assert (a == c)[views.group == 1].all()
    assert not (a == b)[views.group == 1].all()
    assert torch.equal(sample_views(SIZES, 500, [((0, 1, 2), 2), ((0, 2), 1)], views=3, seed=0).factors, views.factors)


def test_which_factors_are_shared_is_uniform():
    group = sample_views(SIZES, 4000, 2, seed=5).group
    share = (group == 0).float().mean(0)
    assert (share - 0.4).abs().max() < 5 * (0.24 / 4000) ** 0.5


def test_bad_sharing_is_named():
    with pytest.raises(ValueError, match="shared must name at most 5 factors"):
        sample_views(SIZES, 3, 6)
    with pytest.raises(ValueError, match=r"groups of distinct views in \[0, 1\]"):
        sample_views(SIZES, 3, [((0, 2), 1)])


def test_every_factor_can_be_read_off_every_image():
    scene = ArmScene()
    generator = torch.Generator().manual_seed(0)
    base = torch.stack([torch.randint(size, (12,), generator=generator) for size in scene.sizes], dim=-1)
    images = scene.images(base)
    assert images.shape == (12, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, scene.images(base))
    for factor, size in enumerate(scene.sizes):
        other = base.clone()
        other[:, factor] = (other[:, factor] + 1) % size
        changed = (scene.images(other) - images).abs().amax(dim=(1, 2, 3))
        assert (changed > 0.05).all(), scene.names[factor]


def test_the_held_object_stays_inside_the_image():
    scene = ArmScene()
    extremes = torch.cartesian_prod(*(torch.tensor([0, size - 1]) for size in scene.sizes[3:]))
    factors = torch.cat([torch.tensor([[2, 0, 1]]).expand(len(extremes), -1), extremes], dim=-1)  # large white square
    white = (scene.images(factors).amin(dim=1) > 0.9).sum(dim=(1, 2))
    # 8 x 8 to 9 x 9 pixels by where the square falls on the grid; one column cut off would leave 7 x 8
    assert white.min() >= 64 and white.max() <= 81


def test_scene_names_bad_values():
    with pytest.raises(ValueError, match=r"factors must have shape \(..., 7\), got \(2, 6\)"):
        ArmScene().images(torch.zeros(2, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \[0, 6, 0, 0, 0, 0, 0\]"):
        ArmScene().images(torch.tensor([[0, 0, 0, 0, 0, 0, 0], [0, 6, 0, 0, 0, 0, 0]]))
    assert ArmScene().images(torch.zeros(0, 7, dtype=torch.int64)).shape == (0, 3, 64, 64)


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


def test_tuples_keep_to_their_side_of_the_split():
    held_out = held_out_images(SIZES, 0.2)
    assert held_out.shape == (8400 * 5,) and held_out.sum() == 8400
    index = torch.arange(len(held_out)).view(SIZES)
    for test in (False, True):
        views = sample_split_views(SIZES, 300, [((0, 1, 2), 2), ((0, 2), 1)], held_out, test, views=3, seed=3)
        assert (held_out[index[views.factors.unbind(-1)]] == test).all()
        assert len(views.factors) == 300
        assert torch.equal((views.group == 0).sum(1), torch.full((300,), 2))
        a, b, c = views.factors.unbind(1)
        assert ((a == b) & (b == c))[views.group == 0].all() and (a == c)[views.group == 1].all()
    with pytest.raises(ValueError, match="held_out must leave tuples of 2 views, got only 0"):
        sample_split_views((2, 2), 5, 0, torch.zeros(4, dtype=torch.bool), test=True)


def test_a_rendered_scene_is_read_as_mpi3d(tmp_path):
    scene = ArmScene(2)
    scene.sizes = (2, 3, 1, 1, 2, 2, 2)  # a corner of the scene
    path = render_all(tmp_path / "folder" / "arm.npy", scene)
    opened = MPI3D(path, sizes=scene.sizes)
    factors = torch.cartesian_prod(*(torch.arange(size) for size in scene.sizes))
    assert (opened.images(factors) - scene.images(factors)).abs().max() <= 0.5 / 255 + 1e-6
    written = path.stat().st_mtime_ns
    assert render_all(path, scene).stat().st_mtime_ns == written
    assert [entry.name for entry in path.parent.iterdir()] == ["arm.npy"]
    with pytest.raises(ValueError, match="joint_values must be >= 2, got 1"):
        ArmScene(1)
