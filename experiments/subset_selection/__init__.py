"""Choose k features: pixels and genes, by exact laws of subsets and by what else is used."""
