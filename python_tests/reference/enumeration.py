"""Brute-force answers by enumeration, independent of the code under test."""

import itertools
import math

import torch


def sizes_in_support(m, n):
    """All size vectors with 0 <= n_k <= m_k that sum to n: (S, K) int64."""
    every = itertools.product(*[range(min(count, n) + 1) for count in m])
    return torch.tensor([sizes for sizes in every if sum(sizes) == n])


def mvhg_log_weights(log_omega, m, n):
    """Support and log [prod_k C(m_k, n_k) omega_k^{n_k}] on it, from exact integer binomials."""
    support = sizes_in_support(m, n)
    log_binomials = [sum(math.log(math.comb(c, x)) for c, x in zip(m, row, strict=True)) for row in support.tolist()]
    weights = torch.tensor(log_binomials, dtype=torch.float64)
    return support, weights + support.double() @ log_omega


def plackett_luce_prob(order, log_scores):
    """Thesis Eq. 2.63, term by term."""
    scores, order = log_scores.exp(), list(order)
    factors = [scores[element] / scores[order[i:]].sum() for i, element in enumerate(order)]
    return torch.stack(factors).prod()


def all_labels(n, num_subsets):
    return torch.tensor(list(itertools.product(range(num_subsets), repeat=n)))


def partition_prob(labels, log_scores, num_subsets):
    """Sum of the Plackett-Luce probabilities of all orders that fill the subsets as `labels` says."""
    subsets = [[i for i, label in enumerate(labels) if label == k] for k in range(num_subsets)]
    orders = itertools.product(*[itertools.permutations(subset) for subset in subsets])
    return sum(plackett_luce_prob([i for part in order for i in part], log_scores) for order in orders)


def orders_of(labels, num_subsets):
    """All orders that list the subsets in turn."""
    subsets = [[i for i, label in enumerate(labels) if label == k] for k in range(num_subsets)]
    parts = itertools.product(*[itertools.permutations(subset) for subset in subsets])
    return [[i for part in order for i in part] for order in parts]


def assignment_order_prob(order, labels, log_scores):
    """Probability of the order by rows of scores (K, n), given the sizes: each step by the row of its subset."""
    factors = [log_scores[labels[i], order[at:]].softmax(0)[0] for at, i in enumerate(order)]
    return torch.stack(factors).prod()


def assignment_prob(labels, log_scores):
    return sum(assignment_order_prob(order, labels, log_scores) for order in orders_of(labels, len(log_scores)))
