"""Patterns of sharing: special cases of chapters 3 and 4, exact evidence, learned partitions, generation."""

import itertools
import math

import pytest
import torch
from linear_modalities import NAMES, data, exact_log_prob, modalities

from drpm.models import multimodal_objectives, multimodal_posterior
from drpm.models.experts import Pooling
from drpm.models.multimodal_vae import MultimodalVAE
from drpm.models.pattern_sharing import FixedSharing, Patterns, SharingSelection, group_patterns

SUBSETS = [s for size in (1, 2, 3) for s in itertools.combinations(range(3), size)]
SHARED, PRIVATE = 3, 4  # places of "all shared" and "all private" among group_patterns(3)
SOME = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]]).bool()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sharing_model(labels, subsets="product", selection=None, **options):
    sharing = FixedSharing(labels, 3) if selection is None else selection
    parts = modalities((0, 0, 0), shared=sharing.latent, **options)
    return MultimodalVAE(parts, sharing.latent, pooling=Pooling(subsets), sharing=sharing)


def test_default_patterns_are_the_groups():
    assert group_patterns(3) == [
        ((0, 1), (2,)),
        ((0, 2), (1,)),
        ((1, 2), (0,)),
        ((0, 1, 2),),
        ((0,), (1,), (2,)),
    ]
    for modalities_ in (1, 2, 5):
        assert len(Patterns(group_patterns(modalities_), modalities_)) == 2**modalities_ - modalities_


@pytest.mark.parametrize("subsets", ["product", "mixture", "mixture of products"])
def test_all_shared_is_the_joint_model(subsets):
    joint = MultimodalVAE(modalities((0, 0, 0)), 2, pooling=Pooling(subsets))
    model = sharing_model([SHARED, SHARED], subsets)
    one, two = (m.bound(data(), SOME, generator=generator()) for m in (joint, model))
    torch.testing.assert_close(two.kl, one.kl)
    if subsets == "product":  # the same random numbers
        torch.testing.assert_close(two.objective, one.objective)
    posteriors = [m.posterior(data(), SOME) for m in (joint, model)]
    (_, drawn), (codes, latents) = (posterior.sample(7, generator()) for posterior in posteriors)
    place = model.sharing.patterns.blocks.index((0, 1, 2))
    latents.shared[:, :, place] = drawn.shared
    torch.testing.assert_close(posteriors[1].log_ratio(latents), posteriors[0].log_ratio(drawn))
    assert all(torch.equal(code, codes[0]) for code in codes)


def test_all_private_is_unimodal_vaes():
    apart = MultimodalVAE(modalities((2, 2, 2), shared=0), 0, pooling=Pooling("product"))
    model = sharing_model([PRIVATE, PRIVATE])
    one, two = (m.bound(data(), SOME, generator=generator()) for m in (apart, model))
    torch.testing.assert_close(two.objective, one.objective)
    torch.testing.assert_close(two.kl, one.private_kl)
    for m in (apart, model):
        torch.testing.assert_close(
            m.log_likelihood(data(), SOME, samples=5, generator=generator()),
            apart.log_likelihood(data(), SOME, samples=5, generator=generator()),
        )


def test_a_fixed_split_is_shared_and_private_subspaces(monkeypatch):
    for module in (multimodal_objectives, multimodal_posterior):
        monkeypatch.setattr(module, "normal_noise", lambda samples, like, g: like.new_zeros(samples, *like.shape))
    split = MultimodalVAE(modalities((2, 2, 2), shared=2), 2, pooling=Pooling("product"))
    model = sharing_model([SHARED, SHARED, PRIVATE, PRIVATE])
    one, two = (m.bound(data(), SOME, generator=generator()) for m in (split, model))
    torch.testing.assert_close(two.log_probs, one.log_probs)
    torch.testing.assert_close(two.kl, one.kl + one.private_kl)
    torch.testing.assert_close(two.objective, one.objective)


LABELS = [0, 3, 1, 4]  # of each dimension: {0, 1}, all, {0, 2}, private


def reads(model):
    """Which of the model's variables each dimension of a decoder reads."""
    patterns, labels = model.sharing.patterns, model.sharing.labels.tolist()
    variables = [(i, block) for i, k in enumerate(labels) for block in patterns.patterns[k]]
    found = [torch.zeros(len(labels), len(variables), dtype=torch.float64) for _ in range(3)]
    for place, (i, block) in enumerate(variables):
        for m in block:
            found[m][i, place] = 1.0
    return found


@pytest.mark.parametrize("subsets", ["product", "mixture of products"])
def test_bounds_and_importance_estimates_of_patterns(subsets):
    model = sharing_model(LABELS, subsets, log_variance=1.0)
    for given in SUBSETS:
        names = [NAMES[m] for m in given]
        x = data(2)
        exact = exact_log_prob(model, {m: x[m] for m in names}, reads(model))
        many = {m: x[m].repeat(2000, 1) for m in names}
        found = model.bound(many, generator=generator()).objective.detach().view(2000, 2)
        assert (found.mean(0) - 4 * found.std(0) / math.sqrt(2000) <= exact).all()
        exact = exact_log_prob(model, x, reads(model))
        many = {m: value.repeat(60, 1) for m, value in x.items()}
        estimates = model.log_likelihood(many, given=names, samples=100, generator=generator())
        ratio = (estimates.view(60, 2) - exact).exp()
        assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(60)).all()
        assert (ratio.std(0) < 1.5).all()


def test_generation_takes_blocks_that_meet_the_given_from_their_posterior():
    model = sharing_model(LABELS, log_variance=-60.0)
    x = data(2)
    codes, _ = model.posterior(x, given=["image"]).sample(3000, generator())
    own = model.modalities["image"].encoder(x["image"])[0]
    torch.testing.assert_close(codes[0], own.expand(3000, -1, -1))
    for m, known in ((1, [0, 1]), (2, [1, 2])):
        free = [i for i in range(4) if i not in known]
        torch.testing.assert_close(codes[m][..., known], own[:, known].expand(3000, -1, -1))
        assert (codes[m][..., free].mean(0).abs() < 5 / math.sqrt(3000)).all()
        assert ((codes[m][..., free].std(0) - 1).abs() < 5 / math.sqrt(6000)).all()
    prior, _ = model.prior(3000).sample(1, generator())
    assert torch.equal(prior[0][..., 1], prior[1][..., 1]) and torch.equal(prior[0][..., 0], prior[1][..., 0])
    assert not torch.isclose(prior[0][..., 3], prior[1][..., 3]).any()
    found = model.posterior(x, given=["image"]).representation()
    torch.testing.assert_close(found, own * torch.tensor([1.0, 1, 1, 0]))
    sound = model.posterior(x, given=["sound"]).representation()  # {0, 1} and all hold it, {0, 2} does not
    torch.testing.assert_close(sound, model.modalities["sound"].encoder(x["sound"])[0] * torch.tensor([1.0, 1, 0, 0]))


@pytest.mark.parametrize("kl", ["bound", "loose bound", "exact"])
@pytest.mark.parametrize("amortised", [False, True])
def test_partitions_are_learned_and_read_only_what_is_observed(amortised, kl):
    torch.manual_seed(0)
    selection = SharingSelection(6, 3, amortised=amortised, kl=kl).double()
    model = sharing_model(None, "mixture of products", selection)
    clean = data()
    dirty = {m: torch.where(SOME[:, i : i + 1], clean[m], math.nan) for i, m in enumerate(NAMES)}
    found = []
    for x in (clean, dirty):
        torch.manual_seed(1)
        model.zero_grad()
        bound = model.bound(x, SOME, tau=0.7, generator=generator())
        bound.objective.mean().backward()
        found.append([bound.objective, *(p.grad for p in selection.parameters())])
        torch.testing.assert_close(bound.sizes.sum(-1), torch.full_like(bound.sizes[:, 0], 6))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two) and one.isfinite().all() and one.any()
    assert isinstance(model.posterior(clean, SOME).representation(), torch.Tensor) and selection.training


def test_rows_draw_their_own_partitions_in_training_only():
    torch.manual_seed(0)
    selection = SharingSelection(8, 3)
    zeros, seen = torch.zeros(50, 3, 8), torch.ones(50, 3, dtype=torch.bool)
    drawn = selection(zeros, zeros, seen)
    assert (drawn.masks.sum(1) == 1).all() and len(drawn.masks.argmax(1).unique(dim=0)) > 10
    with torch.no_grad():
        selection.log_omega.copy_(torch.tensor([-9.0, -9, -9, 5, 5]))
    selection.eval()
    assert len(selection(zeros, zeros, seen).masks.argmax(1).unique(dim=0)) == 1
    assert set(selection(zeros, zeros, seen).masks.argmax(1).flatten().tolist()) <= {3, 4}


def test_the_order_of_modalities_does_not_matter():
    order = [2, 0, 1]
    moved = [[[order.index(m) for m in block] for block in pattern] for pattern in group_patterns(3)]
    model = sharing_model(LABELS, log_variance=-60.0)
    parts = {NAMES[m]: model.modalities[NAMES[m]] for m in order}
    other = MultimodalVAE(parts, 4, pooling=Pooling("product"), sharing=FixedSharing(LABELS, 3, moved))
    one = model.bound(data(), SOME, generator=generator())
    two = other.bound(data(), SOME[:, order], generator=generator())
    torch.testing.assert_close(one.objective, two.objective)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Patterns([[[0, 1]]], 3), "Patterns: patterns must be set partitions of 0 to 2"),
        (lambda: Patterns([[[0, 1], [1, 2]]], 3), "Patterns: patterns must be set partitions of 0 to 2"),
        (lambda: Patterns([[[0, 1, 2], []]], 3), "Patterns: patterns must be set partitions of 0 to 2"),
        (lambda: Patterns([[[0, 1, 3]]], 3), "Patterns: patterns must be set partitions of 0 to 2"),
        (lambda: Patterns([], 3), "Patterns: patterns must be set partitions of 0 to 2"),
        (lambda: Patterns([[[0, 1], [2]], [[2], [1, 0]]], 3), "Patterns: patterns must be different"),
        (lambda: FixedSharing([0, 5], 3), r"FixedSharing: labels must lie in \[0, 5\)"),
        (lambda: FixedSharing([], 3), r"FixedSharing: labels must lie in \[0, 5\)"),
        (lambda: SharingSelection(0, 3), "SharingSelection: latent must be >= 1, got 0"),
        (lambda: SharingSelection(4, 3, kl="none"), "SharingSelection: kl must be one of bound, loose bound, exact"),
        (lambda: sharing_model([0], "sum"), "Pooling: subsets must be a list or one of"),
        (
            lambda: MultimodalVAE(modalities(), 1, pooling=Pooling([(0,), (1, 2)]), sharing=FixedSharing([0], 3)),
            "MultimodalVAE: pooling must be a plain product",
        ),
    ],
)
def test_bad_patterns_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
