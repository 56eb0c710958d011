"""`vladkit bench`: every way of encoding, its peers and two floors, timed in turn in one run.

cases    sizes to measure           ways, peers   methods, and programs of others
timing   turns and repeats          memory        peaks of resident memory
machine  name, versions, copy rate  results       figures, to and from JSON
measure  one case, in this process  worker, run   all cases, in a process of their own
report   tables                     plot          figure

sum_cases, sum_ways, sums           rows summed into segments: sizes, ways and peers, one case
article                             tables of `--article`: such sums, then encodings
plot_sums                           figure of such sums
"""
