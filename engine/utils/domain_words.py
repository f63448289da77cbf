"""Words for the rows of a table: people, customers, households, devices, or the members of a streaming service.

explain.domain  ->  singular and plural, and what the cluster that stands out and its interests are called
"""

from __future__ import annotations

from dataclasses import dataclass

_SINGULARS = {"people": "person", "persons": "person", "men": "man", "women": "woman", "children": "child"}
_ROOMS = ("members", "viewers")  # of a streaming service, which brings them together in rooms
_PERSONS = {  # words whose rows are persons: "everybody" is said of them, and "all devices" of others
    *_SINGULARS, *_ROOMS, "adults", "citizens", "clients", "customers", "developers", "donors", "drivers", "employees",
    "guests", "learners", "listeners", "passengers", "patients", "players", "readers", "respondents", "shoppers",
    "students", "subscribers", "teachers", "travellers", "users", "visitors", "voters",
}  # fmt: skip


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
    def everybody(self) -> str:
        """What all rows together are called: "everybody", or "all devices"."""
        return "everybody" if self.plural in _PERSONS else f"all {self.plural}"

    @property
    def nobody(self) -> str:
        """What a share of 0 is called: "nobody", or "no device"."""
        return "nobody" if self.plural in _PERSONS else f"no {self.singular}"

    @property
    def hardly_anybody(self) -> str:
        """What a share with too few of them behind it is called."""
        return "hardly anybody" if self.plural in _PERSONS else f"hardly any {self.singular}"

    @property
    def community(self) -> str:
        """What the cluster that differs most from everybody is called."""
        return "Community persona" if self.plural in _ROOMS else "Stands out most"

    @property
    def opens_with(self) -> str:
        """What the interests of a cluster are introduced by."""
        return (
            "A room for them would open with"
            if self.plural in _ROOMS
            else f"More often than {self.everybody}, they name"
        )

    def count(self, number: float) -> str:
        """Format a number of them: "1 person", "1,234 people"."""
        return f"1 {self.singular}" if round(number) == 1 else f"{round(number):,} {self.plural}"


DEFAULT_WORDS = DomainWords()
