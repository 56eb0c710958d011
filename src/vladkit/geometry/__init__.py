"""Geometry of image pairs: matching, geometric verification, copies of one shot.

`matching` finds the descriptors that belong together, `verification` the geometry that they fit
(`hypotheses` is its first step), `same_shot` tells copies from other photos by that geometry, and
`photometric` by their pixels.
"""
