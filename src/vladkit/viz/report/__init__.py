"""Pages for people to look at: how good a collection is, and what a search found.

One HTML file each, with all images inside: nothing is fetched, nothing runs. `rankings` collects
what is to be said, `curves` draws it, `matched` draws what fits, `images` makes thumbnails, and
`page` puts them together.
"""

from vladkit.viz.report.page import check_target, write_report, write_search
from vladkit.viz.report.rankings import Asked, Questions, Ranks, assess, drawn, read

__all__ = [
    "Asked",
    "Questions",
    "Ranks",
    "assess",
    "check_target",
    "drawn",
    "read",
    "write_report",
    "write_search",
]
