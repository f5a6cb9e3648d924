"""Text as numbers: 71 symbols, words of a fixed length."""

import string
from collections.abc import Sequence

import torch
from torch import Tensor

from drpm.ops._arguments import require

ALPHABET = " " + string.ascii_lowercase + string.digits + string.punctuation + "\n\t"
"""71 different symbols: those of the published code, where "-" occurs twice, and a tabulator in its second place."""
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLACE = {symbol: place for place, symbol in enumerate(ALPHABET)}


def encode_text(texts: Sequence[str], length: int, starts: Sequence[int] | None = None, fill: str = " ") -> Tensor:
    """Symbols of texts, each at its start in `length` places, the others filled.

    Returns: (N, length) int64 in [0, 71).
    Raises: ValueError for an unknown symbol or a text that does not fit.
    """
    found = torch.full((len(texts), length), _PLACE[fill])
    for row, text in enumerate(texts):
        start = 0 if starts is None else int(starts[row])
        unknown = sorted(set(text) - set(ALPHABET))
        require(not unknown, "encode_text", "texts", "consist of the 71 symbols", "".join(unknown))
        fits = start >= 0 and start + len(text) <= length
        require(fits, "encode_text", "texts", f"fit into {length} places", f"{text!r} at {start}")
        found[row, start : start + len(text)] = torch.tensor([_PLACE[symbol] for symbol in text], dtype=torch.int64)
    return found


def decode_text(symbols: Tensor) -> list[str]:  # (N, length) int64
    """The texts of symbols, with what fills them."""
    return ["".join(ALPHABET[place] for place in row) for row in symbols.tolist()]
