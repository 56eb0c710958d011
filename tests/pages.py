"""Pages of HTML, taken apart."""

from __future__ import annotations

from html.parser import HTMLParser

SCRIPT = '"><script>alert(1)<!--&amp;.jpg'
"""A name that a file may have, and that a careless page would run."""


class Page(HTMLParser):
    """A page taken apart: elements with the text in them, in order."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, text):
        super().__init__()
        self.text = text
        self.elements = []  # [name, attributes, text, enclosing elements]
        self._open = []
        self.feed(text)
        assert self._open == [], "elements that are not closed"

    def handle_starttag(self, name, attributes):
        self.handle_data(" ")  # what is set apart on the page is apart here, too
        element = [name, dict(attributes), "", list(self._open)]
        self.elements.append(element)
        if name not in self.VOID:
            self._open.append(element)

    def handle_startendtag(self, name, attributes):
        self.elements.append([name, dict(attributes), "", list(self._open)])

    def handle_endtag(self, name):
        assert self._open.pop()[0] == name

    def handle_data(self, text):
        for element in self._open:
            element[2] += text

    def all(self, name, part_of=None, **attributes):
        wanted = {k.rstrip("_"): v for k, v in attributes.items()}
        return [
            e
            for e in self.elements
            if e[0] == name
            and (part_of is None or part_of in e[3])
            and all(v in (e[1].get(k) or "").split() for k, v in wanted.items())
        ]

    def words(self, name, part_of=None, **attributes):
        return [" ".join(e[2].split()) for e in self.all(name, part_of, **attributes)]

    def one(self, name, **attributes):
        (found,) = self.all(name, **attributes)
        return found
