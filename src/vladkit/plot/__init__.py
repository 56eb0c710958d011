"""Pictures for people, drawn with matplotlib: matches, rankings, visual words."""

from vladkit.plot.matches import draw_matches
from vladkit.plot.ranking import draw_ranking
from vladkit.plot.words import draw_words

__all__ = ["draw_matches", "draw_ranking", "draw_words"]
