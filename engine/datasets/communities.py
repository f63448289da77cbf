"""Parameters of the demo table's twelve planted communities of streaming members: medians, shares, probabilities.

Each table has one line per trait and one column per community, in the order of NAMES. The communities differ a little
in many traits rather than a lot in one, so no single column separates them. Drawing members from these parameters is
in draw_members.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = (
    "family movie nights",
    "prime-time drama followers",
    "weekend blockbuster watchers",
    "true-crime evening viewers",
    "commuting comedy snackers",
    "night-owl anime fans",
    "documentary and history readers",
    "binge-watching romantics",
    "horror-loving students",
    "classic film lovers",
    "reality and lifestyle grazers",
    "subtitled arthouse critics",
)
SHARES = (0.130, 0.120, 0.110, 0.095, 0.090, 0.085, 0.080, 0.070, 0.065, 0.060, 0.055, 0.040)

# fmt: off
#                            fam    drama  block  crime  comm   anime  docu   roman  horror class  real   art
MEDIANS = {
    "age":                  (38,    49,    33,    41,    28,    23,    54,    31,    21,    67,    36,    42),  # years
    "tenure":               (5.0,   7.0,   4.0,   2.5,   2.5,   3.0,   7.5,   3.0,   1.5,   8.0,   4.0,   6.0),  # years
    "household_size":       (4.1,   2.3,   2.6,   2.4,   1.7,   2.0,   2.2,   1.9,   3.2,   1.7,   2.8,   1.5),
    "weekly_hours":         (9.0,   12.0,  5.0,   14.0,  4.0,   19.0,  6.0,   21.0,  12.0,  8.0,   16.0,  7.0),
    "sessions_per_week":    (7.0,   9.0,   3.0,   8.0,   14.0,  15.0,  5.0,   10.0,  11.0,  6.0,   18.0,  4.0),
    "ratings_given":        (3.0,   8.0,   10.0,  5.0,   2.0,   40.0,  15.0,  12.0,  20.0,  6.0,   1.5,   110.0),
    "mean_rating":          (4.0,   3.7,   3.6,   3.5,   3.9,   4.2,   3.8,   4.3,   3.1,   4.1,   3.3,   3.0),  # 1 … 5
    "downloads_per_month":  (4.0,   1.2,   1.0,   1.2,   18.0,  6.0,   2.0,   5.0,   4.0,   0.6,   2.0,   1.2),
    "days_since_last_watch": (3.0,  2.0,   9.0,   2.5,   2.0,   1.0,   10.0,  1.2,   3.0,   4.0,   1.2,   8.0),
}
ACTIVITY_SHARES = {
    "completion_rate":      (0.70,  0.85,  0.80,  0.95,  0.45,  0.80,  0.95,  0.88,  0.60,  0.90,  0.35,  0.85),
    "weekend_share":        (0.55,  0.25,  0.85,  0.60,  0.15,  0.40,  0.30,  0.45,  0.50,  0.25,  0.30,  0.50),
    "night_share":          (0.05,  0.15,  0.20,  0.70,  0.10,  0.75,  0.12,  0.40,  0.65,  0.05,  0.20,  0.35),
    "mobile_share":         (0.25,  0.08,  0.10,  0.45,  0.85,  0.35,  0.12,  0.50,  0.60,  0.05,  0.45,  0.15),
    "binge_rate":           (0.20,  0.45,  0.10,  0.85,  0.15,  0.70,  0.06,  0.85,  0.45,  0.10,  0.50,  0.15),
    "rewatch_share":        (0.60,  0.12,  0.15,  0.04,  0.35,  0.40,  0.08,  0.30,  0.15,  0.50,  0.10,  0.30),
}
INTEREST_SHARES = {
    "new_release_share":    (0.35,  0.50,  0.90,  0.45,  0.40,  0.55,  0.15,  0.50,  0.60,  0.06,  0.70,  0.40),
    "subtitles_share":      (0.06,  0.15,  0.08,  0.55,  0.20,  0.92,  0.30,  0.55,  0.20,  0.30,  0.06,  0.95),
}
PROBABILITIES = {
    "has_kids_profile":     (0.92,  0.15,  0.20,  0.12,  0.05,  0.03,  0.06,  0.08,  0.05,  0.02,  0.35,  0.04),
    "marketing_opt_in":     (0.45,  0.40,  0.50,  0.35,  0.55,  0.30,  0.25,  0.60,  0.45,  0.20,  0.65,  0.15),
    "TV":                   (0.95,  0.95,  0.92,  0.85,  0.35,  0.45,  0.85,  0.60,  0.30,  0.97,  0.70,  0.80),
    "phone":                (0.60,  0.30,  0.40,  0.55,  0.97,  0.75,  0.30,  0.80,  0.85,  0.08,  0.80,  0.40),
    "tablet":               (0.70,  0.25,  0.20,  0.40,  0.30,  0.20,  0.35,  0.45,  0.15,  0.30,  0.45,  0.25),
    "laptop":               (0.30,  0.25,  0.30,  0.35,  0.40,  0.75,  0.50,  0.55,  0.85,  0.10,  0.25,  0.70),
    "console":              (0.35,  0.08,  0.45,  0.10,  0.15,  0.55,  0.05,  0.08,  0.40,  0.02,  0.10,  0.08),
}
GENDERS = {
    "female":               (0.55,  0.60,  0.30,  0.78,  0.48,  0.36,  0.42,  0.84,  0.45,  0.52,  0.76,  0.48),
    "male":                 (0.44,  0.39,  0.69,  0.21,  0.50,  0.60,  0.57,  0.14,  0.51,  0.47,  0.23,  0.49),
    "other":                (0.01,  0.01,  0.01,  0.01,  0.02,  0.04,  0.01,  0.02,  0.04,  0.01,  0.01,  0.03),
}
CITY_SIZES = {
    "metropolis":           (0.15,  0.22,  0.25,  0.20,  0.60,  0.45,  0.20,  0.35,  0.40,  0.20,  0.20,  0.70),
    "city":                 (0.30,  0.30,  0.35,  0.30,  0.28,  0.33,  0.30,  0.33,  0.40,  0.28,  0.32,  0.20),
    "town":                 (0.38,  0.30,  0.27,  0.32,  0.10,  0.16,  0.30,  0.22,  0.15,  0.30,  0.32,  0.07),
    "village":              (0.17,  0.18,  0.13,  0.18,  0.02,  0.06,  0.20,  0.10,  0.05,  0.22,  0.16,  0.03),
}
PLANS = {
    "Basic":                (0.05,  0.25,  0.20,  0.25,  0.65,  0.30,  0.25,  0.30,  0.60,  0.45,  0.40,  0.10),
    "Standard":             (0.15,  0.50,  0.35,  0.50,  0.25,  0.35,  0.45,  0.45,  0.20,  0.40,  0.40,  0.25),
    "Premium":              (0.15,  0.15,  0.40,  0.15,  0.07,  0.30,  0.25,  0.20,  0.05,  0.12,  0.10,  0.60),
    "Family":               (0.65,  0.10,  0.05,  0.10,  0.03,  0.05,  0.05,  0.05,  0.15,  0.03,  0.10,  0.05),
}
MISSING_RATES = {  # probability that a value is missing
    "age":                  (0.02,  0.03,  0.03,  0.03,  0.05,  0.22,  0.03,  0.05,  0.12,  0.02,  0.03,  0.06),
    "gender":               (0.04,  0.04,  0.05,  0.04,  0.06,  0.14,  0.05,  0.05,  0.12,  0.03,  0.04,  0.09),
    "city_size":            (0.03,) * 12,
    "language":             (0.01,) * 12,
    "price_paid":           (0.02,) * 12,
    "household_size":       (0.03,  0.05,  0.06,  0.05,  0.08,  0.09,  0.05,  0.06,  0.10,  0.04,  0.05,  0.06),
    "devices":              (0.02,) * 12,
    "payment_method":       (0.02,) * 12,
    "completion_rate":      (0.02,) * 12,
    "subtitles_share":      (0.04,) * 12,
    "days_since_last_watch": (0.01,) * 12,
    "favourite_genres":     (0.02,  0.02,  0.03,  0.02,  0.06,  0.01,  0.01,  0.01,  0.02,  0.01,  0.05,  0.01),
    "favourite_decade":     (0.10,  0.05,  0.06,  0.06,  0.15,  0.08,  0.04,  0.06,  0.08,  0.01,  0.18,  0.01),
    "marketing_opt_in":     (0.08,) * 12,
}
DECADES = ("1950s", "1960s", "1970s", "1980s", "1990s", "2000s", "2010s", "2020s")
DECADE_CENTERS =            (5.5,   5.5,   6.5,   5.8,   6.0,   6.2,   5.0,   6.0,   5.6,   1.5,   6.8,   3.5)
DECADE_WIDTHS =             (1.2,   1.3,   0.8,   1.1,   1.2,   0.9,   1.7,   1.0,   1.5,   1.2,   0.6,   2.0)
# fmt: on

# Within a community: of the logarithm for amounts, of the log-odds for shares, else in the units of the trait.
STANDARD_DEVIATIONS = {
    "age": 6.0,
    "tenure": 0.5,
    "household_size": 0.7,
    "weekly_hours": 0.45,
    "sessions_per_week": 0.35,
    "ratings_given": 0.8,
    "mean_rating": 0.3,
    "downloads_per_month": 0.7,
    "days_since_last_watch": 0.8,
    **dict.fromkeys(ACTIVITY_SHARES | INTEREST_SHARES, 0.5),
}

NORMAL_TRAITS = ("age", "household_size", "mean_rating")  # of MEDIANS, normally distributed; the others are lognormal
DEVICES = ("TV", "phone", "tablet", "laptop", "console")

GENRES = (
    *("Action", "Adventure", "Animation", "Anime", "Classic", "Comedy", "Crime", "Documentary", "Drama"),
    *("Family", "Fantasy", "History", "Horror", "Music", "Reality", "Romance", "Science fiction", "Thriller"),
)
_GENRE_WEIGHTS: tuple[dict[str, float], ...] = (  # added to 0.15 for every genre
    {"Family": 6, "Animation": 5, "Adventure": 3, "Comedy": 2, "Fantasy": 1.5},
    {"Drama": 7, "Romance": 2, "History": 2, "Crime": 2, "Thriller": 1},
    {"Action": 7, "Adventure": 4, "Science fiction": 4, "Fantasy": 2, "Thriller": 1},
    {"Crime": 7, "Thriller": 4, "Documentary": 2.5, "Drama": 2},
    {"Comedy": 8, "Animation": 1.5, "Music": 1.5, "Reality": 1},
    {"Anime": 8, "Animation": 3, "Fantasy": 2.5, "Science fiction": 2.5},
    {"Documentary": 7, "History": 5, "Music": 1.5, "Science fiction": 1},
    {"Romance": 7, "Drama": 4, "Comedy": 3},
    {"Horror": 8, "Thriller": 4, "Science fiction": 2},
    {"Classic": 8, "Drama": 2.5, "Music": 2.5, "History": 2, "Romance": 1},
    {"Reality": 8, "Comedy": 2, "Music": 2.5, "Romance": 1.5},
    {"Drama": 5, "Classic": 4, "Documentary": 2.5, "Music": 1.5, "Crime": 1},
)

# Base weight, price level relative to the list price, and main language of each country.
COUNTRIES: dict[str, tuple[float, float, str]] = {
    "United States": (30.0, 1.00, "English"),
    "Brazil": (10.0, 0.45, "Portuguese"),
    "United Kingdom": (8.5, 1.00, "English"),
    "Germany": (7.5, 1.02, "German"),
    "Mexico": (6.5, 0.50, "Spanish"),
    "France": (6.0, 1.00, "French"),
    "India": (5.0, 0.25, "Hindi"),
    "Canada": (4.5, 0.92, "English"),
    "Japan": (4.0, 0.80, "Japanese"),
    "Spain": (3.2, 0.95, "Spanish"),
    "Italy": (2.8, 0.95, "Italian"),
    "Australia": (2.4, 0.90, "English"),
    "South Korea": (2.0, 0.75, "Korean"),
    "Argentina": (1.6, 0.35, "Spanish"),
    "Netherlands": (1.4, 1.05, "Dutch"),
    "Poland": (1.3, 0.65, "Polish"),
    "Turkey": (1.2, 0.30, "Turkish"),
    "Sweden": (1.0, 1.02, "Swedish"),
    "South Africa": (0.7, 0.50, "English"),
    "Norway": (0.4, 1.10, "Norwegian"),
}
_COUNTRY_FACTORS: dict[str, dict[str, float]] = {  # factors of the base weights
    "family movie nights": {"Mexico": 3.0, "Poland": 3.0, "Brazil": 2.0},
    "prime-time drama followers": {"United Kingdom": 3.0, "Turkey": 3.0, "Australia": 2.0},
    "weekend blockbuster watchers": {"United States": 3.0, "Canada": 3.0},
    "true-crime evening viewers": {"Sweden": 6.0, "Norway": 6.0, "United Kingdom": 3.0},
    "commuting comedy snackers": {"India": 10.0, "South Africa": 4.0},
    "night-owl anime fans": {"Japan": 10.0, "France": 2.0, "South Korea": 3.0},
    "documentary and history readers": {"Germany": 6.0, "Netherlands": 4.0, "Norway": 2.0},
    "binge-watching romantics": {"South Korea": 8.0, "Mexico": 3.0, "Turkey": 4.0},
    "horror-loving students": {"Mexico": 4.0, "United States": 2.0, "Argentina": 3.0},
    "classic film lovers": {"Italy": 5.0, "France": 3.0, "United Kingdom": 2.0},
    "reality and lifestyle grazers": {"Brazil": 8.0, "South Africa": 3.0},
    "subtitled arthouse critics": {"France": 6.0, "Italy": 3.0, "Argentina": 3.0},
}
LANGUAGES = tuple(dict.fromkeys(language for _, _, language in COUNTRIES.values()))
PAYMENT_METHODS = ("card", "PayPal", "direct debit", "mobile bill", "gift card")
LIST_PRICES = (6.99, 11.99, 17.99, 22.99)  # of the PLANS, in US dollars a month


def genre_weights(n_communities: int) -> NDArray[np.float64]:
    """Return the weight of each genre, of shape (n_communities, 18)."""
    rows = [[0.15 + tastes.get(genre, 0.0) for genre in GENRES] for tastes in _GENRE_WEIGHTS[:n_communities]]
    return np.array(rows)


def country_weights(n_communities: int) -> NDArray[np.float64]:
    """Return the weight of each country, of shape (n_communities, 20)."""
    factors = [_COUNTRY_FACTORS.get(name, {}) for name in NAMES[:n_communities]]
    return np.array([[COUNTRIES[country][0] * row.get(country, 1.0) for country in COUNTRIES] for row in factors])


def decade_weights(n_communities: int) -> NDArray[np.float64]:
    """Return the weight of each decade, of shape (n_communities, 8): a Gaussian around the community's center."""
    centers, widths = (np.array(values[:n_communities])[:, None] for values in (DECADE_CENTERS, DECADE_WIDTHS))
    weights: NDArray[np.float64] = 0.01 + np.exp(-0.5 * ((np.arange(len(DECADES)) - centers) / widths) ** 2)
    return weights


def language_weights() -> NDArray[np.float64]:
    """Return the weight of each language, of shape (20, n_languages): most for the main one, some for English."""
    weights = np.full((len(COUNTRIES), len(LANGUAGES)), 0.05 / len(LANGUAGES))
    for row, (_, _, language) in enumerate(COUNTRIES.values()):
        weights[row, LANGUAGES.index(language)] += 0.85
        weights[row, LANGUAGES.index("English")] += 0.10
    return weights


def payment_weights() -> NDArray[np.float64]:
    """Return the weight of each payment method, of shape (20, 5), with additions for a few countries."""
    weights = np.tile(np.array([0.62, 0.16, 0.10, 0.08, 0.04]), (len(COUNTRIES), 1))
    for country, method, weight in (
        ("Germany", 2, 0.5),
        ("Netherlands", 2, 0.6),
        ("India", 3, 0.7),
        ("Turkey", 3, 0.3),
    ):
        weights[list(COUNTRIES).index(country), method] += weight
    return weights
