"""Tests of the configuration: what cannot be is refused, naming the setting; files are UTF-8."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import FitConfig
from engine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kmeans: {n_clusters: 0}", r"kmeans\.n_clusters: 0 must be at least 1, or auto"),
        ("kmeans: {n_clusters: -3}", r"kmeans\.n_clusters: -3 must be at least 1"),
        ("kmeans: {n_clusters: true}", r"kmeans\.n_clusters: true is not a number"),
        ("kmeans: {n_clusters: 2.5}", r"kmeans\.n_clusters"),
        ("kmeans: {n_clusters: many}", r"kmeans\.n_clusters"),
        ("kmeans: {n_init: 0}", r"kmeans\.n_init: 0 must be at least 1"),
        ("kmeans: {k_min: 9, k_max: 4}", r"kmeans: k_min=9 must not be greater than k_max=4"),
        ("kmeans: {k_min: 0}", r"kmeans\.k_min"),
        ("kmeans: {tol: .inf}", r"kmeans\.tol"),
        ("kmeans: {max_iter: 0}", r"kmeans\.max_iter"),
        ("pca: {n_components: 0}", r"pca\.n_components: 0 must be a whole number of at least 1, a share"),
        ("pca: {n_components: -0.5}", r"pca\.n_components: -0.5 must be"),
        ("pca: {n_components: 1.5}", r"pca\.n_components: 1.5 must be"),
        ("pca: {n_components: 1.0}", r"pca\.n_components: 1.0 must be"),
        ("pca: {n_components: .nan}", r"pca\.n_components"),
        ("map: {perplexity: .inf}", r"map\.perplexity"),
        ("features: {groups: {g: {weight: .nan}}}", r"features\.groups\.g\.weight"),
    ],
)
def test_a_setting_that_cannot_be_is_a_usage_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        FitConfig.read(tmp_path / "c.yaml")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1, 30, 0.5, 0.999, "auto"])
def test_components_are_a_number_a_share_or_auto(value: int | float | str) -> None:
    kept = FitConfig.merge({}, pca={"n_components": value}).pca.n_components
    assert kept == value
    assert type(kept) is type(value)


def test_a_configuration_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes("features: {roles: {größe: numeric}}".encode())
    assert FitConfig.read(path).features.roles == {"größe": "numeric"}
    path.write_bytes("features: {roles: {größe: numeric}}".encode("latin-1"))
    (tmp_path / "day.yaml").write_text("features:\n  reference_day: 2024-02-30\n")
    with pytest.raises(ConfigError, match="is not YAML: day is out of range"):
        FitConfig.read(tmp_path / "day.yaml")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        FitConfig.read(path)
