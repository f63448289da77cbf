"""Words for the rows of a table: people, customers, households, devices, or the members of a streaming service.

explain.domain  ->  singular and plural, and what the cluster that stands out and its interests are called
"""

from __future__ import annotations

from dataclasses import dataclass

_SINGULARS = {"people": "person", "persons": "person", "men": "man", "women": "woman", "children": "child"}
_ROOMS = ("members", "viewers")  # of a streaming service, which brings them together in rooms


@dataclass(frozen=True)
class DomainWords:
    """What the rows of a table are called.

    Attributes
    ----------
    singular, plural : str
    """

    singular: str = "person"
    plural: str = "people"

    @classmethod
    def of(cls, plural: str) -> DomainWords:
        """Return the words for a plural, such as "customers"."""
        if plural in _SINGULARS:
            singular = _SINGULARS[plural]
        elif plural.endswith("ies"):
            singular = f"{plural[:-3]}y"
        else:
            singular = plural.removesuffix("s")
        return cls(singular, plural)

    @property
    def community(self) -> str:
        """What the cluster that differs most from everybody is called."""
        return "Community persona" if self.plural in _ROOMS else "Stands out most"

    @property
    def opens_with(self) -> str:
        """What the interests of a cluster are introduced by."""
        return "A room for them would open with" if self.plural in _ROOMS else "More often than everybody, they name"

    def count(self, number: float) -> str:
        """Format a number of them: "1 person", "1,234 people"."""
        return f"1 {self.singular}" if round(number) == 1 else f"{round(number):,} {self.plural}"


DEFAULT_WORDS = DomainWords()
