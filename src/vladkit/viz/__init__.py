"""Images for people, drawn with matplotlib: matches, rankings, visual words."""

from vladkit.viz.matches import draw_matches
from vladkit.viz.ranking import draw_ranking
from vladkit.viz.words import draw_words

__all__ = ["draw_matches", "draw_ranking", "draw_words"]
