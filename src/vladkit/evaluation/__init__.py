"""Evaluation of retrieval: metrics and the data sets of the field."""
