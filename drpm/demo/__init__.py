"""`drpm demo`: real handwritten digits, partitioned without labels."""
