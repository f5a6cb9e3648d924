"""Tables of gene expression with labels: blood cells of scanpy's wheel, patients of Bioconductor's package ALL."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drpm.data._reading import reading
from drpm.data.r_data import RObject, read_rda


class Expression(NamedTuple):
    """`values` (N, n) float32; `labels`: task -> (N,) int64, -1: unknown; `classes`: task -> names of its classes."""

    values: Tensor
    genes: list[str]
    labels: dict[str, Tensor]
    classes: dict[str, list[str]]


def load_blood_cells(root: str | os.PathLike[str] = "data") -> Expression:
    """Load 700 blood cells with 765 genes, the sample of 10x Genomics' PBMC 68k that scanpy ships.

    The values are those of the file's raw part, log(1 + normalised count): its X is z-scored over all cells. The genes
    were preselected there, by their dispersion; labels are computed ones: `cell type` (10) by correlation with purified
    cells, `cycle` (3) by the scores of marker genes, `cluster` (11) by Louvain's method.

    Args:
        root: the folder that `python -m drpm.data.fetch` filled.
    Raises: FileNotFoundError when the file is missing, ModuleNotFoundError without h5py, ValueError for damage.
    """
    path = _file(root, "blood_cells/10x_pbmc68k_reduced.h5ad", "load_blood_cells", "blood-cells")
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("load_blood_cells: needs h5py; pip install 'drpm[experiments]'") from error
    with reading("load_blood_cells", path, ".h5ad file"), h5py.File(path) as file:
        data, columns, starts = (file["raw.X"][name][:] for name in ("data", "indices", "indptr"))
        genes = [name.decode() for name in file["raw.var"]["index"]]
        values = np.zeros((len(starts) - 1, len(genes)), np.float32)
        values[np.repeat(np.arange(len(starts) - 1), np.diff(starts)), columns] = data
        labels, classes = {}, {}
        for task, column in (("cell type", "bulk_labels"), ("cycle", "phase"), ("cluster", "louvain")):
            labels[task] = torch.from_numpy(file["obs"][column].astype(np.int64))
            classes[task] = [name.decode() for name in file[f"uns/{column}_categories"]]
    return Expression(torch.from_numpy(values), genes, labels, classes)


def load_leukaemia(root: str | os.PathLike[str] = "data") -> Expression:
    """Load 128 patients with acute lymphoblastic leukaemia, 12,625 probes (Chiaretti et al., 2004).

    Values are log2 intensities. Tasks: `lineage` (B or T cells) and `subtype`, the molecular one, of the B cells; those
    of fewer than five patients are unknown.

    Args:
        root: the folder that `python -m drpm.data.fetch` filled.
    Raises: FileNotFoundError when the file is missing, ValueError for damage.
    """
    path = _file(root, "leukaemia/ALL.rda", "load_leukaemia", "leukaemia")
    patients = read_rda(path)["ALL"].attributes
    exprs = patients["assayData"].value["exprs"]
    probes, count = exprs.attributes["dim"].value.tolist()
    values = torch.from_numpy(exprs.value.reshape(count, probes).astype(np.float32))  # R's arrays begin with columns
    genes = list(exprs.attributes["dimnames"].value[0].value)
    frame = patients["phenoData"].attributes["data"]
    names = frame.attributes["names"].value
    stage, molecular = (_factor(frame.value[names.index(name)]) for name in ("BT", "mol.biol"))
    lineage = [name[0] for name in stage]
    subtype = [name if cells == "B" else None for name, cells in zip(molecular, lineage, strict=True)]
    kept = sorted({name for name in subtype if name is not None and subtype.count(name) >= 5})
    classes = {"lineage": ["B", "T"], "subtype": kept}
    labels = {
        task: torch.tensor([classes[task].index(name) if name in classes[task] else -1 for name in found])
        for task, found in (("lineage", lineage), ("subtype", subtype))
    }
    return Expression(values, genes, labels, classes)


def _factor(column: RObject) -> list[Any]:
    levels = column.attributes["levels"].value
    return [levels[code - 1] if code > 0 else None for code in column.value.tolist()]


def _file(root: str | os.PathLike[str], name: str, op: str, package: str) -> Path:
    path = Path(root) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{op}: root must hold {name}, got {os.fspath(root)}; get it with: python -m drpm.data.fetch {package}"
        )
    return path
