"""The thesis' experiments on the MVHG, 5.1.4 and 5.1.5: docs/math/mvhg.md."""
