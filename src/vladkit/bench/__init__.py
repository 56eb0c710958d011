"""`vladkit bench`: every way of encoding, its peers and two floors, timed in turn in one run.

cases    what is measured          ways, peers   who takes part
timing   turns and repeats         memory        peaks of resident memory
machine  name, versions, copy rate results       what comes out, to and from JSON
measure  one case, in this process worker, run   all cases, in a process of their own
report   the tables                plot          the image
"""
