"""Draw one block of demo members from the mixture of communities.

    MixtureParameters, (seed, block), ids  ->  31 columns of 65,536 rows, and each row's community

Flags and categories are drawn from 16 random bits per row (probabilities of categories are multiples of 1/4096),
amounts are lognormal, and shares are logit-normal. Demographics depend on the member's community; activity and
interests depend on the community of the viewer, which is the same one on most accounts.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.datasets import communities

ROWS_PER_DRAW = 65_536  # members per generator; another value would change the members of every seed
SHARED_ACCOUNTS = 0.03  # share of accounts whose viewer is of another community
NEWEST_SIGNUP = datetime.date(2026, 1, 1)
_QUANTILE_BITS = 12  # probabilities are multiples of 1/4096: the tables stay in the L2 cache

UInt8s = NDArray[np.uint8]
UInt16s = NDArray[np.uint16]
Bools = NDArray[np.bool_]
Float32s = NDArray[np.float32]


def _field(name: str, data_type: pa.DataType, group: str, unit: str = "") -> pa.Field:
    return pa.field(name, data_type, metadata={"rooms.group": group} | ({"rooms.unit": unit} if unit else {}))


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
        *(_field(name, pa.float64(), "activity", "share") for name in communities.ACTIVITY_SHARES),
        _field("ratings_given", pa.int32(), "activity", "ratings"),
        _field("mean_rating", pa.float64(), "activity", "stars"),
        _field("downloads_per_month", pa.int32(), "activity", "downloads/month"),
        _field("days_since_last_watch", pa.int32(), "activity", "days"),
        *(_field(name, pa.float64(), "interests", "share") for name in communities.INTEREST_SHARES),
        _field("favourite_genres", pa.list_(pa.string()), "interests"),
        _field("favourite_decade", pa.string(), "interests"),
    ]
)


@dataclass(frozen=True)
class MixtureParameters:
    """Distributions of all traits as arrays, built once for a table of members."""

    n_communities: int
    quantile_tables: Mapping[str, UInt8s]  # the category of each (group, quantile), flat: (n_groups · 4096,)
    probabilities: Mapping[str, NDArray[np.uint32]]  # of flags and missing values by community, in 1/65,536
    locations: Mapping[str, Float32s]  # by community: log of amounts, log-odds of shares, else in units

    @staticmethod
    def for_communities(n_communities: int) -> MixtureParameters:
        """Return the parameters of the first `n_communities` communities."""
        n = n_communities
        weights: dict[str, NDArray[np.float64]] = {
            "community": np.array([communities.SHARES[:n]]),
            "gender": np.array(list(communities.GENDERS.values())).T[:n],
            "city_size": np.array(list(communities.CITY_SIZES.values())).T[:n],
            "plan": np.array(list(communities.PLANS.values())).T[:n],
            "country": communities.country_weights(n),
            "favourite_genres": communities.genre_weights(n),
            "favourite_decade": communities.decade_weights(n),
            "language": communities.language_weights(),
            "payment_method": communities.payment_weights(),
        }
        probabilities = communities.PROBABILITIES | {
            _missing_key(name): rates for name, rates in communities.MISSING_RATES.items()
        }
        locations = {name: np.array(medians[:n], np.float32) for name, medians in communities.MEDIANS.items()}
        locations |= {
            name: np.log(medians) for name, medians in locations.items() if name not in communities.NORMAL_TRAITS
        }
        for name, medians in (communities.ACTIVITY_SHARES | communities.INTEREST_SHARES).items():
            share = np.array(medians[:n])
            locations[name] = np.log(share / (1.0 - share)).astype(np.float32)
        return MixtureParameters(
            n,
            {name: _quantile_table(rows) for name, rows in weights.items()},
            {name: np.round(np.array(row[:n]) * 65_536).astype(np.uint32) for name, row in probabilities.items()},
            locations,
        )


def _missing_key(name: str) -> str:
    return f"no {name}"


def _quantile_table(weights: NDArray[np.float64]) -> UInt8s:
    """Return the inverse of each row's distribution function at 4,096 points, flat: (n_groups · 4096,)."""
    edges = np.round(np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1) * (1 << _QUANTILE_BITS))
    slots = np.arange(1 << _QUANTILE_BITS)
    return np.concatenate([np.searchsorted(row, slots, side="right") for row in edges]).astype(np.uint8)


class _Sampler:
    """Random variates of one block of rows; the order of the calls determines the values."""

    def __init__(self, parameters: MixtureParameters, seed: int, block: int) -> None:
        self._parameters = parameters
        self._generator = np.random.Generator(np.random.Philox(key=np.array([seed, block], np.uint64)))

    def random_bits(self) -> UInt16s:
        return self._generator.integers(0, 1 << 16, ROWS_PER_DRAW, dtype=np.uint16)

    def normal(self) -> Float32s:
        return self._generator.standard_normal(ROWS_PER_DRAW, dtype=np.float32)

    def categorical(self, name: str, group: UInt8s) -> UInt8s:
        """Draw a category for each row, by the distribution of its group."""
        quantile = (group.astype(np.int32) << _QUANTILE_BITS) + (self.random_bits() >> (16 - _QUANTILE_BITS))
        return self._parameters.quantile_tables[name].take(quantile)

    def bernoulli(self, name: str, community: UInt8s) -> Bools:
        return self.random_bits() < self._parameters.probabilities[name].take(community)

    def missing_mask(self, name: str, community: UInt8s) -> Bools | None:
        return self.bernoulli(_missing_key(name), community) if name in communities.MISSING_RATES else None

    def gaussian(self, name: str, community: UInt8s, normal: Float32s | None = None) -> Float32s:
        """Return location + standard deviation · normal: an amount, its logarithm, or the log-odds of a share."""
        deviations = self.normal() if normal is None else normal
        scale = np.float32(communities.STANDARD_DEVIATIONS[name])
        return self._parameters.locations[name].take(community) + scale * deviations

    def lognormal(self, name: str, community: UInt8s, normal: Float32s | None = None) -> Float32s:
        return np.exp(self.gaussian(name, community, normal))

    def logit_normal(self, name: str, community: UInt8s) -> pa.Array:
        """Draw shares, rounded to three digits, with missing values."""
        odds = self.lognormal(name, community)
        return _float64_array(odds / (1.0 + odds), 3, self.missing_mask(name, community))

    def poisson(self, mean: Float32s) -> NDArray[np.int64]:
        return self._generator.poisson(mean)


def draw_members(
    parameters: MixtureParameters, seed: int, block: int, ids: NDArray[np.int64]
) -> tuple[dict[str, pa.Array], UInt8s]:
    """Draw one complete block of members.

    Parameters
    ----------
    parameters : MixtureParameters
    seed, block : int
        In [0, 2**64): the key of the generator.
    ids : int64 of shape (65536,)

    Returns
    -------
    columns : dict of column name to pyarrow Array
        In the order and types of SCHEMA.
    community : uint8 of shape (65536,)
        The ground truth: indices in `communities.NAMES`.
    """
    sampler = _Sampler(parameters, seed, block)
    community = sampler.categorical("community", np.zeros(ROWS_PER_DRAW, np.uint8))
    is_shared = sampler.random_bits() < SHARED_ACCOUNTS * 65_536
    n_communities = parameters.n_communities
    other_community = (community + 1 + sampler.random_bits() % (n_communities - 1)) % n_communities
    viewer_community = np.where(is_shared, other_community, community).astype(np.uint8)
    columns = {"user_id": pa.array(ids)}
    columns |= _demographics(sampler, community)
    columns |= _activity(sampler, viewer_community) | _interests(sampler, viewer_community)
    return columns, community


def _demographics(sampler: _Sampler, community: UInt8s) -> dict[str, pa.Array]:
    country, plan = sampler.categorical("country", community), sampler.categorical("plan", community)
    price_level = np.array([price_level for _, price_level, _ in communities.COUNTRIES.values()], np.float32)
    price = np.array(communities.LIST_PRICES, np.float32).take(plan) * price_level.take(country)
    has_promotion = sampler.random_bits() < 9_000  # of 65,536: one member in seven
    price *= np.where(has_promotion, np.float32(0.8), np.float32(1.0))
    tenure_days = np.minimum(sampler.lognormal("tenure", community) * 365.25, 15 * 365.25)
    newest_day = (NEWEST_SIGNUP - datetime.date(1970, 1, 1)).days
    household = np.clip(np.rint(sampler.gaussian("household_size", community)), 1, 9)
    age = np.clip(sampler.gaussian("age", community), 16, 95)
    language, payment = sampler.categorical("language", country), sampler.categorical("payment_method", country)
    opted_in = sampler.bernoulli("marketing_opt_in", community)
    no_answer = sampler.missing_mask("marketing_opt_in", community)
    return {
        "age": _int32_array(age, sampler.missing_mask("age", community)),
        "gender": _string_array(
            communities.GENDERS, sampler.categorical("gender", community), sampler.missing_mask("gender", community)
        ),
        "country": _string_array(communities.COUNTRIES, country),
        "city_size": _string_array(
            communities.CITY_SIZES,
            sampler.categorical("city_size", community),
            sampler.missing_mask("city_size", community),
        ),
        "language": _string_array(communities.LANGUAGES, language, sampler.missing_mask("language", community)),
        "plan": _string_array(communities.PLANS, plan),
        "price_paid": _float64_array(price, 2, sampler.missing_mask("price_paid", community)),
        "household_size": _int32_array(household, sampler.missing_mask("household_size", community)),
        "has_kids_profile": pa.array(sampler.bernoulli("has_kids_profile", community)),
        "payment_method": _string_array(
            communities.PAYMENT_METHODS, payment, sampler.missing_mask("payment_method", community)
        ),
        "signup_date": _int32_array(newest_day - tenure_days).cast(pa.date32()),
        "marketing_opt_in": pa.array(opted_in, mask=no_answer),
    }


def _activity(sampler: _Sampler, community: UInt8s) -> dict[str, pa.Array]:
    hours_deviation = sampler.normal()  # shared with sessions: more hours come with more sessions
    hours = np.minimum(sampler.lognormal("weekly_hours", community, hours_deviation), 140.0)
    sessions_deviation = 0.6 * hours_deviation + 0.8 * sampler.normal()
    sessions = sampler.poisson(sampler.lognormal("sessions_per_week", community, sessions_deviation))
    minutes = np.minimum(60.0 * hours / np.maximum(sessions, 1) * np.exp(0.2 * sampler.normal()), 600.0)
    has_device = np.stack([sampler.bernoulli(device, community) for device in communities.DEVICES], axis=1)
    has_device[~has_device.any(axis=1), 0] = True  # every member has a device: the TV, if no other
    devices = np.broadcast_to(np.arange(len(communities.DEVICES)), has_device.shape)
    ratings = np.floor(sampler.lognormal("ratings_given", community))
    mean_rating = np.clip(sampler.gaussian("mean_rating", community), 1.0, 5.0)
    days_idle = np.minimum(sampler.lognormal("days_since_last_watch", community), 365.0)
    return {
        "devices": _list_array(communities.DEVICES, devices, has_device, sampler.missing_mask("devices", community)),
        "weekly_hours": _float64_array(hours, 2),
        "sessions_per_week": _int32_array(sessions),
        "mean_session_minutes": _float64_array(minutes, 1, sessions == 0),
        **{name: sampler.logit_normal(name, community) for name in communities.ACTIVITY_SHARES},
        "ratings_given": _int32_array(ratings),
        "mean_rating": _float64_array(mean_rating, 1, ratings == 0),
        "downloads_per_month": _int32_array(sampler.lognormal("downloads_per_month", community)),
        "days_since_last_watch": _int32_array(days_idle, sampler.missing_mask("days_since_last_watch", community)),
    }


def _interests(sampler: _Sampler, community: UInt8s) -> dict[str, pa.Array]:
    # Five draws, the favourite first; repeated genres are dropped, so lists hold one to five genres.
    genres = np.stack([sampler.categorical("favourite_genres", community) for _ in range(5)], axis=1)
    is_first = np.ones(genres.shape, np.bool_)
    for position in range(1, 5):
        for earlier in range(position):
            is_first[:, position] &= genres[:, position] != genres[:, earlier]
    decades = sampler.categorical("favourite_decade", community)
    return {
        **{name: sampler.logit_normal(name, community) for name in communities.INTEREST_SHARES},
        "favourite_genres": _list_array(
            communities.GENRES, genres, is_first, sampler.missing_mask("favourite_genres", community)
        ),
        "favourite_decade": _string_array(
            communities.DECADES, decades, sampler.missing_mask("favourite_decade", community)
        ),
    }


def _int32_array(values: NDArray[Any], missing: Bools | None = None) -> pa.Array:
    return pa.array(values.astype(np.int32), mask=missing)


def _float64_array(values: Float32s, digits: int, missing: Bools | None = None) -> pa.Array:
    return pa.array(np.round(values.astype(np.float64), digits), mask=missing)


def _string_array(names: Iterable[str], codes: NDArray[Any], missing: Bools | None = None) -> pa.Array:
    indices = pa.array(codes, pa.uint8(), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, list(names)).dictionary_decode()


def _list_array(names: Iterable[str], codes: NDArray[Any], selected: Bools, missing: Bools | None) -> pa.Array:
    """Return one list per row: the names of the selected codes, in their order."""
    if missing is not None:
        selected = selected & ~missing[:, None]
    offsets = np.zeros(len(selected) + 1, np.int32)
    np.cumsum(selected.sum(axis=1), out=offsets[1:])
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(
        pa.array(offsets), _string_array(names, codes[selected].astype(np.uint8)), mask=mask
    )
