"""Gene expression: a written .h5ad of the same layout, a written R workspace, damaged and missing files."""

import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from drpm.data import load_blood_cells, load_leukaemia
from drpm.data.r_data import RObject, read_rda

NULL = struct.pack(">i", 254)


class Writer:
    """R's serialisation, as far as a set of patients needs it; symbols are written once and then referred to."""

    def __init__(self) -> None:
        self.symbols: list[str] = []

    def symbol(self, name: str) -> bytes:
        if name in self.symbols:
            return struct.pack(">i", (self.symbols.index(name) + 1) << 8 | 255)
        self.symbols.append(name)
        return struct.pack(">i", 1) + self.string(name)

    @staticmethod
    def string(text: str | None) -> bytes:
        if text is None:
            return struct.pack(">ii", 9, -1)
        return struct.pack(">ii", 9, len(text.encode())) + text.encode()

    def pairs(self, found: dict) -> bytes:
        return b"".join(struct.pack(">i", 2 | 1024) + self.symbol(k) + self.item(v) for k, v in found.items()) + NULL

    def item(self, value) -> bytes:
        if isinstance(value, RObject):
            if value.value is None:
                return struct.pack(">i", 25 | 512) + self.pairs(value.attributes)
            if isinstance(value.value, dict):
                self.symbols.append("an environment")
                table = struct.pack(">ii", 19, 2) + self.pairs(value.value) + NULL
                return struct.pack(">ii", 4, 0) + struct.pack(">i", 253) + NULL + table + NULL
            plain = self.item(value.value)
            flags = struct.unpack(">i", plain[:4])[0] | (512 if value.attributes else 0)
            rest = self.pairs(value.attributes) if value.attributes else b""
            return struct.pack(">i", flags) + plain[4:] + rest
        if isinstance(value, np.ndarray):
            kind, code = (">f8", 14) if value.dtype.kind == "f" else (">i4", 13)
            return struct.pack(">ii", code, len(value)) + value.astype(kind).tobytes()
        if all(isinstance(text, str | None) for text in value):
            return struct.pack(">ii", 16, len(value)) + b"".join(self.string(text) for text in value)
        return struct.pack(">ii", 19, len(value)) + b"".join(self.item(own) for own in value)

    def workspace(self, objects: dict) -> bytes:
        return b"RDX2\nX\n" + struct.pack(">iii", 2, 0x20B00, 0x20300) + self.pairs(objects)


def patients(values: np.ndarray, stage: list[str], molecular: list[str]) -> RObject:
    probes, count = values.shape

    def factor(names: list[str]) -> RObject:
        levels = sorted(set(names))
        return RObject(np.array([levels.index(name) + 1 for name in names]), {"levels": levels})

    names = [[f"probe {i}" for i in range(probes)], [f"patient {j}" for j in range(count)]]
    exprs = RObject(values.T.reshape(-1).copy(), {"dim": np.array([probes, count]), "dimnames": names})
    frame = RObject([factor(stage), factor(molecular)], {"names": ["BT", "mol.biol"]})
    data = {"assayData": RObject({"exprs": exprs}), "phenoData": RObject(None, {"data": frame})}
    return RObject(None, data)


def test_a_workspace_of_patients(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 13))
    stage = ["B1"] * 11 + ["T", "T2"]
    molecular = ["NEG"] * 5 + ["BCR/ABL"] * 5 + ["rare"] + ["NEG"] * 2
    (tmp_path / "leukaemia").mkdir()
    path = tmp_path / "leukaemia" / "ALL.rda"
    written = Writer().workspace({"ALL": patients(values, stage, molecular)})
    path.write_bytes(lzma.compress(written))
    found = load_leukaemia(tmp_path)
    assert torch.equal(found.values, torch.from_numpy(values.T.astype(np.float32)))
    assert found.genes == [f"probe {i}" for i in range(4)]
    assert found.classes == {"lineage": ["B", "T"], "subtype": ["BCR/ABL", "NEG"]}
    assert found.labels["lineage"].tolist() == [0] * 11 + [1, 1]
    assert found.labels["subtype"].tolist() == [1] * 5 + [0] * 5 + [-1] * 3
    for content in (written[:-60], written[:30], b"RDA2\nA\n", lzma.compress(written)[:-40], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"read_rda: path must be a whole \.rda file, got .*ALL\.rda"):
            load_leukaemia(tmp_path)


def test_parts_of_a_workspace(tmp_path: Path) -> None:
    writer = Writer()
    function = struct.pack(">i", 3) + NULL + NULL + NULL
    content = writer.workspace({"x": np.array([1, 2]), "texts": ["a", None, "ü"]})
    content = content[:-4] + struct.pack(">i", 2 | 1024) + writer.symbol("f") + function + NULL
    (tmp_path / "x.rda").write_bytes(content)
    found = read_rda(tmp_path / "x.rda")
    assert found["x"].value.tolist() == [1, 2] and found["texts"].value == ["a", None, "ü"] and found["f"].value is None


def test_cells_of_an_h5ad_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "blood_cells").mkdir()
    path = tmp_path / "blood_cells" / "10x_pbmc68k_reduced.h5ad"
    dense = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, 0.5]], np.float32)
    with h5py.File(path, "w") as file:
        file["raw.X/data"] = np.array([1.5, 2.0, 0.5], np.float32)
        file["raw.X/indices"] = np.array([1, 0, 2], np.int32)
        file["raw.X/indptr"] = np.array([0, 1, 3], np.int32)
        file["raw.var"] = np.array([(b"A",), (b"B",), (b"C",)], dtype=[("index", "S4")])
        kinds = [("bulk_labels", "i1"), ("phase", "i1"), ("louvain", "i1")]
        file["obs"] = np.array([(0, 1, 0), (1, 0, 0)], dtype=kinds)
        for column, names in (("bulk_labels", [b"T", b"B"]), ("phase", [b"G1", b"S"]), ("louvain", [b"0"])):
            file[f"uns/{column}_categories"] = np.array(names, "S4")
    found = load_blood_cells(tmp_path)
    assert torch.equal(found.values, torch.from_numpy(dense)) and found.genes == ["A", "B", "C"]
    assert found.labels["cell type"].tolist() == [0, 1] and found.classes["cycle"] == ["G1", "S"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"load_blood_cells: path must be a whole \.h5ad file"):
        load_blood_cells(tmp_path)


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    for load, package in ((load_blood_cells, "blood-cells"), (load_leukaemia, "leukaemia")):
        with pytest.raises(FileNotFoundError, match=f"python -m drpm.data.fetch {package}"):
            load(tmp_path)
