"""Geometry of image pairs: matching, geometric verification, the same shot."""
