"""Multimodal VAEs: bounds and likelihoods against exact ones, objectives against plain twins, missing modalities."""

import itertools
import math

import pytest
import torch
from linear_modalities import NAMES, PRIVATE, SHARED, SIZES, data, exact_log_prob, modalities
from torch import nn
from torch.distributions import Normal, kl_divergence

from drpm.models.experts import Pooling
from drpm.models.likelihoods import Bernoulli, Categorical, Gaussian, Laplace
from drpm.models.multimodal_objectives import OBJECTIVES
from drpm.models.multimodal_vae import Modality, MultimodalVAE
from drpm.models.pattern_sharing import FixedSharing

SUBSETS = [s for size in (1, 2, 3) for s in itertools.combinations(NAMES, size)]
POOLINGS = {
    "PoE": Pooling("product"),
    "PoE with prior": Pooling("product", prior_weight=1.0),
    "MoE": Pooling("mixture"),
    "MoPoE": Pooling("mixture of products"),
    "power mean": Pooling("product", "power mean"),
}
SOME = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]]).bool()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kl", ["bound", "monte carlo"])
@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("given", [NAMES, ("image", "text"), ("sound",)])
def test_elbo_is_below_the_exact_evidence(name, kl, given):
    model = MultimodalVAE(modalities(), SHARED, pooling=POOLINGS[name], kl=kl)
    x = {m: data(2)[m] for m in given}
    exact = exact_log_prob(model, x)
    many = {m: value.repeat(4000, 1) for m, value in x.items()}
    found = model.bound(many, generator=generator()).objective.detach().view(4000, 2)
    assert (found.mean(0) - 4 * found.std(0) / math.sqrt(4000) <= exact).all()
    assert (found.mean(0) > exact - 60).all()


def check_importance_estimates(model, x, exact, given):
    repeats = 60
    many = {m: value.repeat(repeats, 1) for m, value in x.items()}
    found = model.log_likelihood(many, given=given, samples=60, generator=generator())
    ratio = (found.view(repeats, -1) - exact).exp()  # of unbiased estimates
    assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(repeats)).all()
    assert (ratio.std(0) < 1.5).all()


@pytest.mark.parametrize("given", SUBSETS)
@pytest.mark.parametrize("name", POOLINGS)
def test_importance_estimates_are_exact_for_every_subset(name, given):
    model = MultimodalVAE(modalities(log_variance=1.0), SHARED, pooling=POOLINGS[name])
    x = data(3)
    check_importance_estimates(model, x, exact_log_prob(model, x), given)


def test_importance_estimates_of_what_is_observed():
    model = MultimodalVAE(modalities(), SHARED)
    x = data(3)
    seen = torch.tensor([[True, False, True]] * 3)
    exact = exact_log_prob(model, {m: x[m] for m in ("image", "text")})
    found = model.log_likelihood(x, seen, given=["text"], samples=20_000, generator=generator())
    torch.testing.assert_close(found, exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("objective", ["mmJSD", "MVTCAE", "MMVAE+"])
def test_importance_estimates_of_the_other_objectives(objective):
    model = MultimodalVAE(modalities(log_variance=1.0), SHARED, objective=objective)
    x = data(2)
    check_importance_estimates(model, x, exact_log_prob(model, x), ("image", "text"))
    with pytest.raises(ValueError, match="objective must have a prior for a likelihood, got MMVM"):
        MultimodalVAE(modalities(), SHARED, objective="MMVM").log_likelihood(x)


def experts_of(model, x, row):
    """Shared and private Gaussians of the observed modalities of a row."""
    found = {}
    for _, name, modality in model.each():
        mean, log_variance = (part[row] for part in modality.encoder(x[name]))
        scale = (0.5 * log_variance).exp()
        found[name] = [Normal(mean[part], scale[part]) for part in (slice(SHARED), slice(SHARED, None))]
    return found


def log_prob_of(model, name, x, code):
    modality = model.modalities[name]
    return Normal(modality.decoder(code), modality.likelihood.scale).log_prob(x).sum()


def standard(like):
    return Normal(torch.zeros_like(like.mean), torch.ones_like(like.mean))


def noise(draws, rows, size):
    return torch.randn(1, rows, size, generator=draws).double()[0]


def product(parts, powers=None):
    powers = [1.0] * len(parts) if powers is None else powers
    precision = sum(w / q.variance for w, q in zip(powers, parts, strict=True))
    mean = sum(w * q.mean / q.variance for w, q in zip(powers, parts, strict=True)) / precision
    return Normal(mean, precision.rsqrt())


def twin(model, x, observed, draws):
    """The objective by loops over rows and modalities; random numbers in the model's order."""
    rows, how = len(observed), model.objective
    uniform = shared_noise = None
    if how in ("mmJSD", "MMVAE+"):
        uniform = torch.rand(1, rows, 1, dtype=torch.float64, generator=draws)[0, :, 0]
    if how == "MMVM":
        shared_noise = [noise(draws, rows, SHARED) for _ in NAMES]
    else:
        shared_noise = [noise(draws, rows, SHARED)] * len(NAMES)
    own_noise = [noise(draws, rows, size) for size in PRIVATE]
    values = []
    for row in range(rows):
        parts = experts_of(model, x, row)
        kept = [place for place in range(3) if observed[row, place]]
        q = {place: parts[NAMES[place]][0] for place in kept}
        private = {place: parts[NAMES[place]][1] for place in kept}
        number, prior = len(kept), standard(q[kept[0]])
        w = {place: private[place].mean + private[place].scale * own_noise[place][row] for place in kept}
        private_kl = sum(kl_divergence(private[m], standard(private[m])).sum() for m in kept)
        scale = 1.0
        if how == "MVTCAE":
            joint = product(list(q.values()))
            z = [joint.mean + joint.scale * shared_noise[0][row]] * 3
            alpha, scale = 0.75, (number - 0.75) / number
            apart = sum(kl_divergence(joint, q[m]).sum() for m in kept)
            kl = (1 - alpha) * kl_divergence(joint, prior).sum() + alpha / number * apart
        elif how == "mmJSD":
            every, share = [prior, *q.values()], 1 / (number + 1)
            dynamic = product(every, [share] * len(every))
            kl = share * sum(kl_divergence(part, dynamic).sum() for part in every)
            chosen = every[int(uniform[row] * len(every))]
            z = [chosen.mean + chosen.scale * shared_noise[0][row]] * 3
        elif how == "MMVM":
            z = [q[m].mean + q[m].scale * shared_noise[m][row] if m in q else None for m in range(3)]
            kl = sum(kl_divergence(q[a], q[b]).sum() / number for a in kept for b in kept)
        else:  # MMVAE+
            chosen = kept[int(uniform[row] * number)]
            u = q[chosen].mean + q[chosen].scale * shared_noise[0][row]
            z = [u] * 3
            mixture = torch.stack([q[m].log_prob(u).sum() for m in kept]).logsumexp(0) - math.log(number)
            kl = mixture - prior.log_prob(u).sum()
            w = {m: w[m] if m == chosen else (model.auxiliary[NAMES[m]] / 2).exp() * own_noise[m][row] for m in kept}
            of_own = private[chosen]
            private_kl = (of_own.log_prob(w[chosen]) - standard(of_own).log_prob(w[chosen])).sum()
        reconstruction = sum(
            model.weights[m] * log_prob_of(model, NAMES[m], x[NAMES[m]][row], torch.cat([z[m], w[m]])) for m in kept
        )
        values.append(scale * reconstruction - model.beta * (kl + model.beta_private * private_kl))
    return torch.stack(values)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "elbo"])
def test_objectives_equal_their_plain_twins(objective):
    model = MultimodalVAE(modalities(weight=None), SHARED, objective=objective, beta=1.7, beta_private=0.6)
    if objective == "MMVAE+":
        with torch.no_grad():
            for part in model.auxiliary.values():
                part.fill_(0.4)
    x = data()
    found = model.bound(x, SOME, generator=generator()).objective
    torch.testing.assert_close(found, twin(model, x, SOME, generator()), rtol=1e-9, atol=1e-9)
    found.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and (parameter.grad.any() or not parameter.numel()), name


def test_weights_are_those_of_eq_3_41_and_betas_weigh():
    plain = MultimodalVAE(modalities(), SHARED)
    model = MultimodalVAE(modalities(weight=None, beta=0.5), SHARED, beta=2.0, beta_private=3.0)
    assert model.weights == [4 / size for size in SIZES]
    one, two = (m.bound(data(), SOME, generator=generator()) for m in (plain, model))
    torch.testing.assert_close(two.log_probs, one.log_probs)
    torch.testing.assert_close(two.private_kl, 0.5 * one.private_kl)
    weighted = (one.log_probs * torch.tensor(model.weights).double()).sum(-1)
    torch.testing.assert_close(two.objective, weighted - 2.0 * (one.kl + 3.0 * 0.5 * one.private_kl))


def every_model(**options):
    for objective in OBJECTIVES:
        for pooling in POOLINGS.values() if objective == "elbo" else [None]:
            yield MultimodalVAE(modalities(**options), SHARED, objective=objective, pooling=pooling)
    for subsets in ("product", "mixture of products"):
        sharing = FixedSharing([0, 4], 3)
        yield MultimodalVAE(modalities(**options), SHARED, pooling=Pooling(subsets), sharing=sharing)


def test_what_is_missing_is_never_read():
    clean = data()
    dirty = {m: torch.where(SOME[:, i : i + 1], clean[m], math.nan) for i, m in enumerate(NAMES)}
    for model in every_model():
        found = []
        for x in (clean, dirty):
            model.zero_grad()
            bound = model.bound(x, SOME, generator=generator())
            bound.objective.sum().backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            likelihood = [] if model.objective == "MMVM" else [model.log_likelihood(x, SOME, generator=generator())]
            found.append([*bound[:5], *grads, *likelihood])
        for one, two in zip(*found, strict=True):
            assert torch.equal(one, two) and two.isfinite().all()


def test_missing_is_left_out():
    x, kept = data(), NAMES[:2]
    seen = torch.tensor([[True, True, False]] * 5)
    for model in every_model(private=(0, 0, 0)):
        if model.sharing is not None:
            continue
        left = {name: model.modalities[name] for name in kept}
        pooling = model.pooling if model.objective == "elbo" else None
        alone = MultimodalVAE(left, SHARED, objective=model.objective, pooling=pooling, alpha=model.alpha)
        both = [
            model.bound(x, seen, generator=generator()),
            alone.bound({m: x[m] for m in kept}, seen[:, :2], generator=generator()),
            model.bound({m: x[m] for m in kept}, generator=generator()),  # absent, not masked
        ]
        for other in both[1:]:
            for one, two in zip(both[0][2:5], other[2:5], strict=True):
                torch.testing.assert_close(one, two)
            torch.testing.assert_close(both[0].objective, other.objective)


@pytest.mark.parametrize("objective", ["PoE", "MVTCAE", "MMVM"])
def test_the_order_of_modalities_does_not_matter(objective):
    order, x = [2, 0, 1], data()
    found = []
    for places in (range(3), order):
        parts = modalities(log_variance=-60.0)  # draws are means
        parts = {NAMES[place]: parts[NAMES[place]] for place in places}
        kind = {"pooling": Pooling("product")} if objective == "PoE" else {"objective": objective}
        bound = MultimodalVAE(parts, SHARED, **kind).bound(x, SOME[:, list(places)], generator=generator())
        found.append([bound.objective, bound.log_probs[:, [list(places).index(m) for m in range(3)]]])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_missing_rows_are_neither_encoded_nor_decoded():
    model = MultimodalVAE(modalities(), SHARED)
    seen = []
    for _, name, modality in model.each():
        for part in ("encoder", "decoder"):
            getattr(modality, part).register_forward_pre_hook(
                lambda module, args, key=(name, part): seen.append((*key, len(args[0])))
            )
    model.bound(data(), SOME, generator=generator())
    wanted = {(m, part, int(SOME[:, i].sum())) for i, m in enumerate(NAMES) for part in ("encoder", "decoder")}
    assert set(seen) == wanted and len(seen) == 6


def test_power_mean_has_the_gradient_of_its_weights():
    model = MultimodalVAE(modalities((0, 0, 0)), SHARED, pooling=POOLINGS["power mean"])
    x = {m: value[:2] for m, value in data().items()}
    weights = list(model.modalities["image"].encoder.parameters())
    experts = model.encode(x)
    mixture = model.pooling(experts.means, experts.log_variances)
    each = -mixture.component_kl()
    for _, name, modality in model.each():
        weight, bias, scale = modality.decoder.weight, modality.decoder.bias, modality.likelihood.scale
        error = (x[name].unsqueeze(1) - mixture.means @ weight.T - bias).square().sum(-1)
        spread = (mixture.log_variances.exp() @ weight.square().T).sum(-1)
        each = each - (error + spread) / (2 * scale**2)
    wanted = torch.autograd.grad((mixture.log_weights.exp() * each).sum(), weights)
    draws, estimates = generator(), []
    for _ in range(60):
        many = {m: value.repeat(200, 1) for m, value in x.items()}
        objective = model.bound(many, generator=draws).objective.sum() / 200
        estimates.append(torch.cat([g.flatten() for g in torch.autograd.grad(objective, weights)]))
    estimates = torch.stack(estimates)
    gap = estimates.mean(0) - torch.cat([g.flatten() for g in wanted])
    assert (gap.abs() < 4.5 * estimates.std(0) / math.sqrt(60)).all()


def test_generation_reads_what_is_given_and_the_prior_elsewhere():
    model = MultimodalVAE(modalities(log_variance=-60.0), SHARED, pooling=Pooling("product"))
    x = data(3)
    found = model.generate(x, given=["image"], count=4000, generator=generator())
    z = model.modalities["image"].encoder(x["image"])[0]
    own = model.modalities["image"].decoder(z)
    torch.testing.assert_close(found["image"], own.expand(4000, -1, -1))  # its private part is known
    assert found["text"].shape == (4000, 3, 4) and found["sound"].shape == (4000, 3, 2)
    decoder = model.modalities["text"].decoder
    mean = z[:, :SHARED] @ decoder.weight[:, :SHARED].T + decoder.bias
    spread = decoder.weight[:, SHARED:].square().sum(1).sqrt()
    assert ((found["text"].mean(0) - mean).abs() < 5 * spread / math.sqrt(4000)).all()
    assert ((found["text"].std(0) - spread).abs() < 5 * spread / math.sqrt(8000)).all()
    for nothing in (model.generate(count=4000, generator=generator()), model.generate(x, given=[], count=4000)):
        spread = decoder.weight.square().sum(1).sqrt()
        assert nothing["text"].shape == (4000, 4)
        assert ((nothing["text"].mean(0) - decoder.bias).abs() < 5 * spread / math.sqrt(4000)).all()


def test_representations_are_the_shared_means():
    model = MultimodalVAE(modalities(), SHARED, pooling=Pooling("product"))
    posterior = model.posterior(data(), given=["image", "text"])
    torch.testing.assert_close(posterior.representation(), posterior.mixture.means[:, 0])
    apart = MultimodalVAE(modalities((1, 1, 2), shared=0), 0)
    found = apart.posterior(data(), given=["image"]).representation()
    torch.testing.assert_close(found[:, :1], apart.modalities["image"].encoder(data()["image"])[0])
    assert found.shape == (5, 4) and (found[:, 1:] == 0).all()


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)

    def forward(self, x):
        found = self.table(x).flatten(1)
        return found[:, :6], found[:, 6:12]


def test_likelihoods_of_every_kind_in_one_model(tmp_path):
    torch.manual_seed(0)

    def dense(size, out):
        return nn.Sequential(nn.Flatten(), nn.Linear(size, out))

    class Halves(nn.Sequential):
        def forward(self, x):
            return super().forward(x).chunk(2, -1)

    def image():
        return Halves(dense(12, 8)), nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2)))

    def make():
        text = nn.Sequential(nn.Linear(6, 21), nn.Unflatten(1, (7, 3)))
        return MultimodalVAE(
            {
                "photo": Modality(*image(), Laplace(0.75), (3, 2, 2)),
                "sketch": Modality(*image(), Bernoulli(), (3, 2, 2)),
                "word": Modality(Text(), text, Categorical(7), (3,), private=2),
            },
            4,
            precision="bf16",
        )

    model = make()
    assert model.weights == [1, 1, 4]
    x = {"photo": torch.randn(5, 3, 2, 2), "sketch": torch.rand(5, 3, 2, 2), "word": torch.randint(7, (5, 3))}
    bound = model.bound(x, SOME, generator=generator())
    assert bound.objective.dtype == torch.float32
    bound.objective.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    made = model.generate({"word": x["word"]}, count=2)
    assert made["photo"].shape == (2, 5, 3, 2, 2) and made["word"].shape == (2, 5, 3)
    assert made["word"].dtype == torch.int64 and (made["sketch"] >= 0).all() and (made["sketch"] <= 1).all()
    model.save(tmp_path / "model.pt")
    other = make().load(tmp_path / "model.pt")
    again = other.bound(x, SOME, generator=generator())
    assert torch.equal(again.objective, bound.objective)
    with pytest.raises(ValueError, match=r"MultimodalVAE.load: file must come from a model with .*image"):
        MultimodalVAE(modalities(), SHARED).load(tmp_path / "model.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "model.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"MultimodalVAE.load: path must be a whole file of torch.save"):
        model.load(tmp_path / "half.pt")


@pytest.mark.parametrize("likelihood", [Laplace(0.6), Gaussian(1.3), Bernoulli(), Categorical(4)])
def test_likelihoods_are_those_of_torch(likelihood):
    torch.manual_seed(0)
    decoded = torch.randn(5, 3, 2)
    kinds = {
        Laplace: lambda: torch.distributions.Laplace(decoded, 0.6),
        Gaussian: lambda: Normal(decoded, 1.3),
        Bernoulli: lambda: torch.distributions.Bernoulli(logits=decoded),
    }
    if isinstance(likelihood, Categorical):
        decoded, x = torch.randn(5, 4, 3), torch.randint(4, (5, 3))
        wanted = torch.distributions.Categorical(logits=decoded.transpose(1, 2)).log_prob(x).sum(1)
    else:
        x = torch.randint(2, (5, 3, 2)).float()
        wanted = kinds[type(likelihood)]().log_prob(x).sum((1, 2))
    torch.testing.assert_close(likelihood.log_prob(decoded, x), wanted)


def with_one(**changes):
    return data() | changes


BROKEN = data()["image"].clone()
BROKEN[1, 0] = math.nan
CALLS = [
    (lambda m: m.bound(with_one(smell=torch.zeros(5, 1))), "modalities must be some of image, sound, text, got smell"),
    (lambda m: m.bound({}), "modalities must be at least one, got none"),
    (lambda m: m.posterior(data(), given=["smell"]), "modalities must be some of image, sound, text, got smell"),
    (lambda m: m.posterior(data(), given=[]), "modalities must be at least one, got none"),
    (lambda m: m.posterior(data(), given=["text", "text"]), "given must not repeat a modality"),
    (lambda m: m.bound(with_one(text=torch.zeros(4, 4))), r"data must have the same number of rows, got \[4, 5\]"),
    (lambda m: m.bound(with_one(text=torch.zeros(5, 3))), r"text must have shape \(5, 4\), got \(5, 3\)"),
    (lambda m: m.bound(with_one(image=BROKEN)), "image must be finite where observed, got nan"),
    (lambda m: m.bound(data(), SOME & False), "observed must have something in every row"),
    (lambda m: m.bound(data(), SOME[:, :2]), r"observed must be bool of shape \(B, 3\), got torch.bool \(5, 2\)"),
    (lambda m: m.bound({"text": data()["text"]}, SOME), "observed must be false for image, which is not in the data"),
    (lambda m: m.posterior(data(), SOME, given=["image"]), "observed must have something in every row"),
    (lambda m: m.log_likelihood(data(), samples=0), "samples must be >= 1, got 0"),
    (lambda m: m.generate(count=0), "count must be >= 1, got 0"),
    (lambda m: MultimodalVAE({}, 2), "modalities must name at least one"),
    (lambda m: MultimodalVAE(modalities(), -1), "shared must be >= 0, got -1"),
    (lambda m: MultimodalVAE(modalities(), 2, objective="IWAE"), "objective must be one of elbo, .*, got IWAE"),
    (lambda m: MultimodalVAE(modalities(), 2, objective="MMVM", pooling=Pooling()), "pooling must be None for MMVM"),
    (lambda m: MultimodalVAE(modalities(), 2, beta=-1.0), "beta must be >= 0, got -1.0"),
    (lambda m: MultimodalVAE(modalities(), 2, kl="exact"), "kl must be bound or monte carlo, got exact"),
    (lambda m: MultimodalVAE(modalities(), 2, alpha=1.5), r"alpha must lie in \[0, 1\], got 1.5"),
    (lambda m: MultimodalVAE(modalities(), 2, prior_share=1.0), r"prior_share must lie in \(0, 1\), got 1.0"),
    (lambda m: MultimodalVAE(modalities(), 3).bound(data()), r"encoder of image must give \(N, 4\), got \(5, 3\)"),
    (lambda m: MultimodalVAE(modalities(), 3, sharing=FixedSharing([0, 1], 3)), "sharing must have 3 dimensions"),
    (lambda m: MultimodalVAE(modalities(), 2, sharing=FixedSharing([0, 1], 2)), "sharing must have 3 modalities"),
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_bad_calls_are_refused(call, message):
    with pytest.raises(ValueError, match=f"MultimodalVAE: {message}"):
        call(MultimodalVAE(modalities(), SHARED))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: modalities(private=(-1, 0, 0), shared=3), "Modality: private must be >= 0, got -1"),
        (lambda: modalities(weight=0.0), "Modality: weight must be > 0, got 0.0"),
        (lambda: modalities(beta=-0.1), "Modality: beta must be >= 0, got -0.1"),
        (lambda: Laplace(0.0), "Laplace: scale must be > 0, got 0.0"),
        (lambda: Gaussian(math.inf), "Gaussian: scale must be > 0, got inf"),
        (lambda: Categorical(0), "Categorical: classes must be >= 1, got 0"),
        (lambda: Bernoulli().check("op", "x", torch.tensor([0.5, 1.5])), r"op: x must lie in \[0, 1\] .*, got 1.5"),
        (lambda: Categorical(7).check("op", "x", torch.tensor([3, 7])), "op: x must hold symbols 0 to 6, got 7"),
    ],
)
def test_bad_parts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dtypes_are_checked():
    with pytest.raises(TypeError, match=r"op: x must have dtype int64, got torch.float32"):
        Categorical(7).check("op", "x", torch.zeros(2))
    with pytest.raises(TypeError, match=r"op: x must have a floating dtype, got torch.int64"):
        Laplace().check("op", "x", torch.zeros(2, dtype=torch.int64))
