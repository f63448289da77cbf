"""Draw one block of demo members: the traits of communities in, Arrow columns out.

    Traits, (seed, block), ids  ->  31 columns of 65,536 rows, and each row's community

Chances and choices are looked up with 16 random bits a row (probabilities are multiples of 1/4096), amounts are
lognormal, shares logit-normal. What a member is comes from their own community, what is watched from the
watcher's: on most accounts that is the same one.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.datasets import communities as known

DRAWN_ROWS = 65_536  # members drawn by one generator: part of what a seed means, so it never changes
SHARED_ACCOUNTS = 0.03  # share of accounts on which somebody of another community watches
NEWEST_SIGNUP = datetime.date(2026, 1, 1)
_SLOT_BITS = 12  # a choice's probabilities are multiples of 1/4096: its table stays in the L2 cache

Codes = NDArray[np.uint8]
Bits = NDArray[np.uint16]
Flags = NDArray[np.bool_]
Reals = NDArray[np.float32]


def _field(name: str, kind: pa.DataType, group: str, unit: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"rooms.group": group} | ({"rooms.unit": unit} if unit else {}))


SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64()),
        _field("age", pa.int32(), "demographics", "years"),
        _field("gender", pa.string(), "demographics"),
        _field("country", pa.string(), "demographics"),
        _field("city_size", pa.string(), "demographics"),
        _field("language", pa.string(), "demographics"),
        _field("plan", pa.string(), "demographics"),
        _field("price_paid", pa.float64(), "demographics", "USD/month"),
        _field("household_size", pa.int32(), "demographics", "persons"),
        _field("has_kids_profile", pa.bool_(), "demographics"),
        _field("payment_method", pa.string(), "demographics"),
        _field("signup_date", pa.date32(), "demographics"),
        _field("marketing_opt_in", pa.bool_(), "demographics"),
        _field("devices", pa.list_(pa.string()), "activity"),
        _field("weekly_hours", pa.float64(), "activity", "hours/week"),
        _field("sessions_per_week", pa.int32(), "activity", "sessions/week"),
        _field("mean_session_minutes", pa.float64(), "activity", "minutes"),
        *(_field(name, pa.float64(), "activity", "share") for name in known.ACTIVITY_SHARES),
        _field("ratings_given", pa.int32(), "activity", "ratings"),
        _field("mean_rating", pa.float64(), "activity", "stars"),
        _field("downloads_per_month", pa.int32(), "activity", "downloads/month"),
        _field("days_since_last_watch", pa.int32(), "activity", "days"),
        *(_field(name, pa.float64(), "interests", "share") for name in known.INTEREST_SHARES),
        _field("favourite_genres", pa.list_(pa.string()), "interests"),
        _field("favourite_decade", pa.string(), "interests"),
    ]
)


@dataclass(frozen=True)
class Traits:
    """The communities' traits as arrays that a block is drawn with; built once a table."""

    n_communities: int
    choices: Mapping[str, Codes]  # per choice: the option of each (group, slot), flat
    chances: Mapping[str, NDArray[np.uint32]]  # in 1/65,536, per community
    centres: Mapping[str, Reals]  # log of amounts, log-odds of shares, else in units; per community

    @staticmethod
    def of(n_communities: int) -> Traits:
        """Return the traits of the first so many communities."""
        n = n_communities
        weights: dict[str, NDArray[np.float64]] = {
            "community": np.array([known.SHARES[:n]]),
            "gender": np.array(list(known.GENDERS.values())).T[:n],
            "city_size": np.array(list(known.CITY_SIZES.values())).T[:n],
            "plan": np.array(list(known.PLANS.values())).T[:n],
            "country": known.country_weights(n),
            "favourite_genres": known.genre_weights(n),
            "favourite_decade": known.decade_weights(n),
            "language": known.language_weights(),
            "payment_method": known.payment_weights(),
        }
        flags = known.CHANCES | {_no(name): chances for name, chances in known.MISSING.items()}
        centres = {name: np.array(medians[:n], np.float32) for name, medians in known.MEDIANS.items()}
        centres |= {name: np.log(medians) for name, medians in centres.items() if name not in known.IN_UNITS}
        for name, medians in (known.ACTIVITY_SHARES | known.INTEREST_SHARES).items():
            share = np.array(medians[:n])
            centres[name] = np.log(share / (1.0 - share)).astype(np.float32)
        return Traits(
            n,
            {name: _slots(rows) for name, rows in weights.items()},
            {name: np.round(np.array(chances[:n]) * 65_536).astype(np.uint32) for name, chances in flags.items()},
            centres,
        )


def _no(name: str) -> str:
    return f"no {name}"


def _slots(weights: NDArray[np.float64]) -> Codes:
    """Return the inverse of each row's distribution function at 4,096 points, flat: (n_groups · 4096,)."""
    edges = np.round(np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1) * (1 << _SLOT_BITS))
    slots = np.arange(1 << _SLOT_BITS)
    return np.concatenate([np.searchsorted(row, slots, side="right") for row in edges]).astype(np.uint8)


class _Dice:
    """All randomness of one block, thrown in a fixed order."""

    def __init__(self, traits: Traits, seed: int, block: int) -> None:
        self._traits = traits
        self._random = np.random.Generator(np.random.Philox(key=np.array([seed, block], np.uint64)))

    def bits(self) -> Bits:
        return self._random.integers(0, 1 << 16, DRAWN_ROWS, dtype=np.uint16)

    def normal(self) -> Reals:
        return self._random.standard_normal(DRAWN_ROWS, dtype=np.float32)

    def choice(self, name: str, group: Codes) -> Codes:
        slot = (group.astype(np.int32) << _SLOT_BITS) + (self.bits() >> (16 - _SLOT_BITS))
        return self._traits.choices[name].take(slot)

    def happens(self, name: str, community: Codes) -> Flags:
        return self.bits() < self._traits.chances[name].take(community)

    def missing(self, name: str, community: Codes) -> Flags | None:
        return self.happens(_no(name), community) if name in known.MISSING else None

    def around(self, name: str, community: Codes, normal: Reals | None = None) -> Reals:
        """Return centre + spread · normal: the amount itself, its logarithm, or the log-odds of a share."""
        deviations = self.normal() if normal is None else normal
        return self._traits.centres[name].take(community) + np.float32(known.SPREADS[name]) * deviations

    def amount(self, name: str, community: Codes, normal: Reals | None = None) -> Reals:
        return np.exp(self.around(name, community, normal))

    def share(self, name: str, community: Codes) -> pa.Array:
        odds = self.amount(name, community)
        return _rounded(odds / (1.0 + odds), 3, self.missing(name, community))

    def poisson(self, mean: Reals) -> NDArray[np.int64]:
        return self._random.poisson(mean)


def draw_members(traits: Traits, seed: int, block: int, ids: NDArray[np.int64]) -> tuple[dict[str, pa.Array], Codes]:
    """Draw one whole block of members.

    Parameters
    ----------
    traits : Traits
    seed, block : int
        In [0, 2**64): the key of the generator.
    ids : int64 of shape (65536,)

    Returns
    -------
    columns : dict of column name to pyarrow Array
        In the order and types of SCHEMA.
    community : uint8 of shape (65536,)
        The planted truth: positions in `communities.NAMES`.
    """
    dice = _Dice(traits, seed, block)
    member = dice.choice("community", np.zeros(DRAWN_ROWS, np.uint8))
    shared = dice.bits() < SHARED_ACCOUNTS * 65_536
    other = (member + 1 + dice.bits() % (traits.n_communities - 1)) % traits.n_communities
    watcher = np.where(shared, other, member).astype(np.uint8)
    columns = {"user_id": pa.array(ids)}
    columns |= _demographics(dice, member) | _activity(dice, watcher) | _interests(dice, watcher)
    return columns, member


def _demographics(dice: _Dice, member: Codes) -> dict[str, pa.Array]:
    country, plan = dice.choice("country", member), dice.choice("plan", member)
    level = np.array([level for _, level, _ in known.COUNTRIES.values()], np.float32)
    price = np.array(known.LIST_PRICES, np.float32).take(plan) * level.take(country)
    price *= np.where(dice.bits() < 9_000, np.float32(0.8), np.float32(1.0))  # promotions: one member in seven
    days = np.minimum(dice.amount("tenure", member) * 365.25, 15 * 365.25)
    newest = (NEWEST_SIGNUP - datetime.date(1970, 1, 1)).days
    household = np.clip(np.rint(dice.around("household_size", member)), 1, 9)
    age = np.clip(dice.around("age", member), 16, 95)
    language, payment = dice.choice("language", country), dice.choice("payment_method", country)
    opted_in, no_answer = dice.happens("marketing_opt_in", member), dice.missing("marketing_opt_in", member)
    return {
        "age": _whole(age, dice.missing("age", member)),
        "gender": _texts(known.GENDERS, dice.choice("gender", member), dice.missing("gender", member)),
        "country": _texts(known.COUNTRIES, country),
        "city_size": _texts(known.CITY_SIZES, dice.choice("city_size", member), dice.missing("city_size", member)),
        "language": _texts(known.LANGUAGES, language, dice.missing("language", member)),
        "plan": _texts(known.PLANS, plan),
        "price_paid": _rounded(price, 2, dice.missing("price_paid", member)),
        "household_size": _whole(household, dice.missing("household_size", member)),
        "has_kids_profile": pa.array(dice.happens("has_kids_profile", member)),
        "payment_method": _texts(known.PAYMENT_METHODS, payment, dice.missing("payment_method", member)),
        "signup_date": _whole(newest - days).cast(pa.date32()),
        "marketing_opt_in": pa.array(opted_in, mask=no_answer),
    }


def _activity(dice: _Dice, watcher: Codes) -> dict[str, pa.Array]:
    eager = dice.normal()  # who watches for more hours also comes more often
    hours = np.minimum(dice.amount("weekly_hours", watcher, eager), 140.0)
    sessions = dice.poisson(dice.amount("sessions_per_week", watcher, 0.6 * eager + 0.8 * dice.normal()))
    minutes = np.minimum(60.0 * hours / np.maximum(sessions, 1) * np.exp(0.2 * dice.normal()), 600.0)
    has = np.stack([dice.happens(device, watcher) for device in known.DEVICES], axis=1)
    has[~has.any(axis=1), 0] = True  # nobody watches without a device
    devices = np.broadcast_to(np.arange(len(known.DEVICES)), has.shape)
    ratings = np.floor(dice.amount("ratings_given", watcher))
    stars = np.clip(dice.around("mean_rating", watcher), 1.0, 5.0)
    idle = np.minimum(dice.amount("days_since_last_watch", watcher), 365.0)
    return {
        "devices": _lists(known.DEVICES, devices, has, dice.missing("devices", watcher)),
        "weekly_hours": _rounded(hours, 2),
        "sessions_per_week": _whole(sessions),
        "mean_session_minutes": _rounded(minutes, 1, sessions == 0),
        **{name: dice.share(name, watcher) for name in known.ACTIVITY_SHARES},
        "ratings_given": _whole(ratings),
        "mean_rating": _rounded(stars, 1, ratings == 0),
        "downloads_per_month": _whole(dice.amount("downloads_per_month", watcher)),
        "days_since_last_watch": _whole(idle, dice.missing("days_since_last_watch", watcher)),
    }


def _interests(dice: _Dice, watcher: Codes) -> dict[str, pa.Array]:
    # Five draws, the favourite first; a genre drawn again adds nothing. So lists hold one to five genres.
    genres = np.stack([dice.choice("favourite_genres", watcher) for _ in range(5)], axis=1)
    new = np.ones(genres.shape, np.bool_)
    for place in range(1, 5):
        for earlier in range(place):
            new[:, place] &= genres[:, place] != genres[:, earlier]
    decades = dice.choice("favourite_decade", watcher)
    return {
        **{name: dice.share(name, watcher) for name in known.INTEREST_SHARES},
        "favourite_genres": _lists(known.GENRES, genres, new, dice.missing("favourite_genres", watcher)),
        "favourite_decade": _texts(known.DECADES, decades, dice.missing("favourite_decade", watcher)),
    }


def _whole(values: NDArray[Any], missing: Flags | None = None) -> pa.Array:
    return pa.array(values.astype(np.int32), mask=missing)


def _rounded(values: Reals, digits: int, missing: Flags | None = None) -> pa.Array:
    return pa.array(np.round(values.astype(np.float64), digits), mask=missing)


def _texts(names: Iterable[str], codes: NDArray[Any], missing: Flags | None = None) -> pa.Array:
    indices = pa.array(codes, pa.uint8(), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, list(names)).dictionary_decode()


def _lists(names: Iterable[str], codes: NDArray[Any], chosen: Flags, missing: Flags | None) -> pa.Array:
    """Return one list a row: the names of its chosen codes, in their order."""
    if missing is not None:
        chosen = chosen & ~missing[:, None]
    offsets = np.zeros(len(chosen) + 1, np.int32)
    np.cumsum(chosen.sum(axis=1), out=offsets[1:])
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(pa.array(offsets), _texts(names, codes[chosen].astype(np.uint8)), mask=mask)
