"""Views with shared factors, and the rendered arm that is their images."""

import pytest
import torch

from drpm.data.mpi3d import MPI3D
from experiments.weak_supervision.arm_scene import ArmScene, render_all
from experiments.weak_supervision.factors import held_out_images, sample_split_views, sample_views

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
