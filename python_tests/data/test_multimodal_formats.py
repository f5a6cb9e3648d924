"""Published formats on small files, text as symbols, modalities missing at random; damaged files."""

import math

import numpy as np
import pytest
import torch

from drpm.data import CelebA, load_poly_mnist, load_svhn, mask_at_random
from drpm.data.pictures import read_picture
from drpm.data.symbols import ALPHABET, DIGIT_WORDS, decode_text, encode_text

Image = pytest.importorskip("PIL.Image")


def test_symbols_are_71_and_different():
    assert len(ALPHABET) == len(set(ALPHABET)) == 71
    found = encode_text(["five", "zero"], 8, [2, 0])
    assert decode_text(found) == ["  five  ", "zero    "]
    assert decode_text(encode_text(["a, b-1"], 8, fill="*")) == ["a, b-1**"]
    assert found.dtype == torch.int64 and max(map(len, DIGIT_WORDS)) == 5
    with pytest.raises(ValueError, match=r"encode_text: texts must consist of the 71 symbols, got É"):
        encode_text(["É"], 8)
    with pytest.raises(ValueError, match=r"encode_text: texts must fit into 8 places, got 'three' at 4"):
        encode_text(["three"], 8, [4])


def test_masks_have_the_rates_and_never_leave_nothing():
    found = mask_at_random(0.5, 20_000, 3, seed=1)
    assert torch.equal(found, mask_at_random(0.5, 20_000, 3, seed=1))
    assert not torch.equal(found, mask_at_random(0.5, 20_000, 3, seed=2))
    assert found.any(-1).all()
    share = 0.5 + 0.5**3 / 3  # a row of nothing keeps one
    assert ((found.double().mean(0) - share).abs() < 5 * math.sqrt(0.25 / 20_000)).all()
    assert mask_at_random(0.0, 10, 2).all()
    each = mask_at_random([0.0, 0.9], 20_000, 2)
    assert each[:, 0].all() and abs(each[:, 1].double().mean() - 0.1) < 5 * math.sqrt(0.09 / 20_000)
    labels = torch.arange(20_000) % 2
    by_label = mask_at_random([[0.0, 0.0], [0.0, 0.8]], 20_000, 2, labels=labels)
    assert by_label[labels == 0].all()
    assert abs(by_label[labels == 1, 1].double().mean() - 0.2) < 5 * math.sqrt(0.16 / 10_000)


@pytest.mark.parametrize(
    ("rate", "labels", "message"),
    [
        (1.0, None, r"rate must lie in \[0, 1\), got 1.0"),
        (-0.1, None, r"rate must lie in \[0, 1\), got -0.1"),
        (math.nan, None, r"rate must lie in \[0, 1\), got nan"),
        ([0.1, 0.1, 0.1], None, r"rate must be one number or 2, got \(3,\)"),
        ([[0.1, 0.1]], torch.tensor([0, 1, 0]), r"labels must lie in \[0, 1\)"),
        (0.5, torch.tensor([0, 1, 0]), r"rate must have shape \(classes, 2\) with labels, got \(\)"),
    ],
)
def test_bad_rates_are_refused(rate, labels, message):
    with pytest.raises(ValueError, match=f"mask_at_random: {message}"):
        mask_at_random(rate, 3, 2, labels=labels)


def test_svhn_is_read_from_its_mat_file(tmp_path):
    io = pytest.importorskip("scipy.io")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 7), dtype=np.uint8)
    labels = np.array([[1], [10], [3], [9], [10], [2], [5]], dtype=np.uint8)
    path = tmp_path / "train_32x32.mat"
    io.savemat(path, {"X": pixels, "y": labels}, do_compression=True)
    images, digits = load_svhn(path)
    assert digits.tolist() == [1, 0, 3, 9, 0, 2, 5]
    assert torch.equal(images[4], torch.from_numpy(pixels[..., 4]).permute(2, 0, 1))
    whole = path.read_bytes()
    for content in (whole[:-200], whole[:60], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"load_svhn: path must be a whole \.mat file, got .*train_32x32\.mat"):
            load_svhn(path)
    io.savemat(path, {"X": pixels.transpose(3, 0, 1, 2), "y": labels})
    with pytest.raises(ValueError, match=r"load_svhn: X must be \(32, 32, 3, N\) uint8, got \(7, 32, 32, 3\) uint8"):
        load_svhn(path)
    io.savemat(path, {"X": pixels, "y": labels[:5]})
    with pytest.raises(ValueError, match="load_svhn: y must be a digit for each image"):
        load_svhn(path)
    with pytest.raises(FileNotFoundError, match="path must be a"):
        load_svhn(tmp_path / "absent.mat")


def test_poly_mnist_is_read_from_its_folders(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 28, 28, 3), dtype=np.uint8)
    for m in range(3):
        (tmp_path / f"m{m}").mkdir()
        for index in range(12):
            Image.fromarray(pixels[m, index]).save(tmp_path / f"m{m}" / f"{index}.{index % 10}.png")
    images, labels = load_poly_mnist(tmp_path)
    assert labels.tolist() == [index % 10 for index in range(12)]
    assert torch.equal(images, torch.from_numpy(pixels).permute(1, 0, 4, 2, 3))
    assert torch.equal(load_poly_mnist(tmp_path, limit=3).images, images[:3])
    path = tmp_path / "m1" / "4.4.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"read_picture: path must be a whole picture file, got .*4\.4\.png"):
        load_poly_mnist(tmp_path)
    Image.fromarray(pixels[0, 0, :20]).save(path)
    with pytest.raises(ValueError, match=r"load_poly_mnist: 4.4.png must be 28 x 28, got \(3, 20, 28\)"):
        load_poly_mnist(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="load_poly_mnist: folder must have the same files in every modality"):
        load_poly_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder must hold m0, m1"):
        load_poly_mnist(tmp_path / "m0")


def write_celeba(root, attributes):
    names = ["5_o_Clock_Shadow", "Big_Nose", "Young"]
    lines = [str(len(attributes)), " ".join(names)]
    (root / "img_align_celeba").mkdir()
    rng = np.random.default_rng(0)
    for index, row in enumerate(attributes):
        file = f"{index + 1:06}.jpg"
        lines.append(f"{file}  " + "  ".join(str(value) for value in row))
        flat = np.full((218, 178, 3), 40 * index, dtype=np.uint8)
        flat[:32] = rng.integers(0, 256, 3, dtype=np.uint8)
        Image.fromarray(flat).save(root / "img_align_celeba" / file)
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    parts = [f"{index + 1:06}.jpg {min(index, 2)}" for index in range(len(attributes))]
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")


def test_celeba_is_read_from_its_own_files(tmp_path):
    write_celeba(tmp_path, [(1, -1, -1), (-1, -1, -1), (1, -1, 1), (-1, 1, 1)])
    test = CelebA(tmp_path, "test", size=32)
    assert len(test) == 2 and len(CelebA(tmp_path)) == 1
    assert test.attributes.tolist() == [[True, False, True], [False, True, True]]
    images = test.images(torch.tensor([1, 0]))
    assert images.shape == (2, 3, 32, 32)
    for image, level in zip(images, (120, 80), strict=True):  # the border above the face is cut off
        torch.testing.assert_close(image, torch.full_like(image, level / 255), atol=0.012, rtol=0)
    texts = decode_text(test.captions(torch.tensor([0, 1])))
    assert texts == ["5 o clock shadow, young".ljust(256, "*"), "big nose, young".ljust(256, "*")]
    assert decode_text(CelebA(tmp_path, "validation").captions(torch.tensor([0]))) == ["*" * 256]


def test_damaged_celeba_files_are_named(tmp_path):
    write_celeba(tmp_path, [(1, -1, -1), (-1, -1, 1)])
    path = tmp_path / "list_attr_celeba.txt"
    whole = path.read_text()
    for content in (whole[: whole.rindex("1")], "\n".join(whole.splitlines()[:-1])):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"CelebA: list_attr_celeba.txt must hold 2 rows of 3 attributes"):
            CelebA(tmp_path)
    path.write_text("")
    with pytest.raises(ValueError, match=r"CelebA: list_attr_celeba.txt must begin with a number"):
        CelebA(tmp_path)
    path.write_text(whole.replace("-1", "0"))
    with pytest.raises(ValueError, match=r"CelebA: list_attr_celeba.txt must hold 1 and -1"):
        CelebA(tmp_path)
    path.write_text(whole)
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(ValueError, match=r"CelebA: list_eval_partition.txt must name every file, got none for"):
        CelebA(tmp_path)
    with pytest.raises(ValueError, match="CelebA: split must be one of train, validation, test, got dev"):
        CelebA(tmp_path, "dev")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"CelebA: root must hold list_attr_celeba.txt"):
        CelebA(tmp_path)


def test_damaged_pictures_are_named(tmp_path):
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").shape == (3, 9, 9)
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"read_picture: path must be a whole picture file, got .*x\.png"):
        read_picture(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match="path must be a picture file"):
        read_picture(tmp_path / "absent.png")
