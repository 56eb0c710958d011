"""HTML reports for people: how good a collection is, and what a search found.

One file each, with all images inside: nothing is fetched, nothing runs. `rankings` collects the
data, `curves` draws figures, `matched` draws matches, `thumbnails` makes small images, and `html`
puts them together.
"""

from vladkit.viz.report.html import check_target, write_report, write_search
from vladkit.viz.report.rankings import Asked, Questions, ReportData, assess, drawn, read

__all__ = [
    "Asked",
    "Questions",
    "ReportData",
    "assess",
    "check_target",
    "drawn",
    "read",
    "write_report",
    "write_search",
]
