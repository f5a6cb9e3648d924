"""Composed multimodal data: golden hashes, what is shared and what is private, splits that share nothing."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("PIL")
pytest.importorskip("matplotlib")

import matplotlib

from drpm.data import StreetDigits
from drpm.data.symbols import decode_text
from experiments.multimodal.compose import LevelDigits, PolyDigits, fractal, open_picture
from experiments.multimodal.data import PAIRS, WordTuples, open_data
from experiments.multimodal.drawing import Partners, drawn, hashed
from experiments.multimodal.street import (
    Face,
    is_for_tests,
    legible,
    load_street,
    read_face,
    read_faces,
    render_set,
    split_faces,
)

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def digest(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()[:16]


def digits(count: int = 200) -> tuple[Tensor, Tensor]:
    """Blobs in the place of handwriting, each different."""
    number = torch.arange(count)
    pixels = hashed(5, 0, torch.arange(count * 64)).view(count, 8, 8) % 256
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 10:18, 10:18] = pixels.to(torch.uint8)
    return images, number % 10


def pictures(number: int) -> list[Tensor]:
    return [(hashed(9, m, torch.arange(3 * 50 * 60)) % 256).to(torch.uint8).view(3, 50, 60) for m in range(number)]


def test_numbers_follow_from_seed_and_index() -> None:
    indices = torch.arange(40_000)
    found = drawn(3, 1, indices, 10)
    assert digest(hashed(0, 0, indices)) == "d731b15b47067428"
    assert torch.equal(found[indices % 3 == 1], drawn(3, 1, indices[indices % 3 == 1], 10))
    counts = torch.bincount(found, minlength=10).double()
    assert ((counts - 4000).square() / 4000).sum() < 40  # chi-square, 9 degrees of freedom
    for other in (drawn(4, 1, indices, 10), drawn(3, 2, indices, 10), drawn(3, 1, indices + 1, 10)):
        assert abs((other == found).double().mean() - 0.1) < 0.01


def test_partners_have_the_label() -> None:
    labels = torch.tensor([3, 1, 3, 0, 1, 3])
    wanted = torch.tensor([3, 1, 0]).repeat(500)
    found = Partners(labels)(0, 0, torch.arange(1500), wanted)
    assert torch.equal(labels[found], wanted) and set(found.tolist()) == set(range(6))


def test_golden_hashes() -> None:
    indices = torch.tensor([0, 7, 199, 42])
    poly = PolyDigits(*digits(), pictures(3))
    levels = LevelDigits(*digits(), pictures(3), seed=1)
    found = [digest(of.pixels(m, indices)) for of in (poly, levels) for m in range(3)]
    assert found == [
        "741154f3cb074162",
        "e1a0e58adcf9db0f",
        "dcec98d03a4e9642",
        "51fab98ee2d0d110",
        "2b247520af317821",
        "913675370789738a",
    ]
    assert digest(fractal(64)) == "8d885760eca912f4"
    words = WordTuples(*digits(), street_set())
    assert digest(words.batch(indices * 3)["text"]) == "7e22f17661b2d674"


def test_poly_inverts_the_stroke_on_its_crop() -> None:
    images, labels = digits()
    poly = PolyDigits(images, labels, pictures(2))
    indices = torch.arange(20)
    for m in range(2):
        exemplars = poly.exemplars(m, indices)
        assert torch.equal(labels[exemplars], labels[:20])
        pixels, strokes = poly.pixels(m, indices), images[exemplars] > 127
        plain = torch.where(strokes.unsqueeze(1), 255 - pixels, pixels)  # the crop again
        windows = pictures(2)[m].unfold(1, 28, 1).unfold(2, 28, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        for crop in plain[:5]:
            assert (windows == crop).flatten(1).all(1).sum() == 1
    assert not torch.equal(poly.exemplars(0, indices), poly.exemplars(1, indices))
    with pytest.raises(ValueError, match=r"PolyDigits: pictures must be 28 x 28 at least, got \[\(3, 20, 60\)\]"):
        PolyDigits(images, labels, [pictures(1)[0][:, :20]])


def test_levels_share_what_they_say() -> None:
    images, labels = digits()
    levels = LevelDigits(images, labels, [torch.zeros(3, 40, 40, dtype=torch.uint8)] * 3)
    indices = torch.arange(200)
    factors = levels.factors(indices)
    pixels = [levels.pixels(m, indices) for m in range(3)]
    colours = [x.flatten(2).amax(2) for x in pixels]
    assert torch.equal(colours[0], colours[1])  # the hue
    assert (colours[2] == 255).all()
    assert len(colours[0].unique(dim=0)) == len(factors["hue"].unique()) == 6
    for a, b in (("hue", "slant"), ("digit", "hue"), ("digit", "slant")):
        table = torch.zeros(10, 10).index_put_((factors[a], factors[b]), torch.ones(200), accumulate=True)
        assert (table[: factors[a].max() + 1, : factors[b].max() + 1] > 0).double().mean() > 0.9
    strokes = [x.amax(1) > 0 for x in pixels]
    rows = torch.arange(28.0)

    def lean(x: Tensor) -> Tensor:  # how far the upper rows' centre lies from the lower ones'
        centre = (x * rows).sum(2) / x.sum(2).clamp(min=1)
        return centre[:, 10:13].mean(1) - centre[:, 15:18].mean(1)

    for m in (1, 2):
        means = [lean(strokes[m].float())[factors["slant"] == s].mean() for s in range(5)]
        assert all(a > b for a, b in itertools.pairwise(means)) or all(a < b for a, b in itertools.pairwise(means))
    own = levels.exemplars(0, indices)
    assert torch.equal(strokes[0], (images[own] > 127))


def street_set() -> StreetDigits:
    return StreetDigits(
        (hashed(2, 0, torch.arange(40 * 3072)) % 256).to(torch.uint8).view(40, 3, 32, 32), torch.arange(40) % 10
    )


def test_words_and_house_numbers_name_the_digit() -> None:
    images, labels = digits(50)
    words = WordTuples(images, labels, street_set())
    assert len(words) == 50 * PAIRS
    indices = torch.tensor([0, 1, 19, 20, 999])
    found = words.batch(indices)
    assert torch.equal(found["mnist"][:3], (images[:1].unsqueeze(1).float() / 255).expand(3, -1, -1, -1))
    assert words.factors(indices)["digit"].tolist() == [0, 0, 0, 1, 9]
    texts = decode_text(words.batch(torch.arange(200))["text"])
    assert {text.strip() for text in texts[:20]} == {"zero"} and len(set(texts[:20])) == 5  # every start
    assert words.batch(indices, ["text"]).keys() == {"text"}
    with pytest.raises(ValueError, match=r"WordTuples: street must show every digit, got none of \[9\]"):
        WordTuples(images, labels, StreetDigits(street_set().images[:9], torch.arange(9)))


def fonts() -> list[Face]:
    return [read_face((FONTS / name).read_bytes(), name) for name in ("DejaVuSans.ttf", "DejaVuSerif.ttf", "cmr10.ttf")]


def test_fonts_are_split_by_family() -> None:
    faces = fonts()
    assert [len(face.glyphs) for face in faces] == [10, 10, 10]
    assert is_for_tests("Sans Bold") == is_for_tests("Sans") == is_for_tests("sans Italic")
    many = [Face(f"Family{n} Bold", faces[n % 3].glyphs) for n in range(60)]
    train, test = split_faces(many, "train"), split_faces(many, "test")
    assert len(train) + len(test) == 60 and 3 < len(test) < 25
    assert not {face.family for face in train} & {face.family for face in test}
    with pytest.raises(ValueError, match="street: fonts must have a family for"):
        split_faces(faces[:1], "train" if is_for_tests(faces[0].family) else "test")


def test_faces_whose_digits_are_symbols_are_left_out() -> None:
    symbols = read_face((FONTS / "cmsy10.ttf").read_bytes(), "cmsy10.ttf")
    faces = [*fonts() * 4, symbols]
    assert legible(faces) == faces[:-1]


def test_fonts_without_digits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"read_face: font must have ten different digits, got STIXNonUni.ttf"):
        read_face((FONTS / "STIXNonUni.ttf").read_bytes(), "STIXNonUni.ttf")
    with pytest.raises(ValueError, match=r"read_face: path must be a whole font, got half.ttf"):
        read_face((FONTS / "DejaVuSans.ttf").read_bytes()[:500], "half.ttf")
    with pytest.raises(FileNotFoundError, match=r"get it with: python -m drpm.data.fetch fonts"):
        read_faces([tmp_path / "fonts" / "none.tar"])
    (tmp_path / "x.tar").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="read_faces: path must be a whole tar file"):
        read_faces([tmp_path / "x.tar"])
    with pytest.raises(FileNotFoundError, match=r"get it with: python -m drpm.data.fetch pictures"):
        open_picture("coffee.png", tmp_path)
    with pytest.raises(ValueError, match="load_street: split must be one of train, test, got dev"):
        load_street(tmp_path, "dev")


def test_street_images_follow_from_seed_split_and_index() -> None:
    faces = [Face(f"Family{n}", face.glyphs) for n, face in enumerate(fonts() * 8)]
    photographs = [picture.repeat(1, 2, 2) for picture in pictures(2)]
    one = render_set(faces, photographs, "train", 12)
    again = render_set(faces, photographs, "train", 6)
    assert torch.equal(one.images[:6], again.images) and one.labels.tolist() == [*range(10), 0, 1]
    for other in (render_set(faces, photographs, "test", 6), render_set(faces, photographs, "train", 6, seed=1)):
        assert not (other.images == again.images).flatten(1).all(1).any()
    assert one.images.shape == (12, 3, 32, 32) and len(np.unique(one.images.numpy())) > 100


def test_unknown_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multimodal: data must be one of poly, mst, levels, got faces"):
        open_data("faces", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="fetch mnist"):
        open_data("poly", str(tmp_path))
