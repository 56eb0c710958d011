"""Aggregation of local descriptors into vectors: encoding, codebooks, VLAD, whitening."""
