"""Tests of the command line as people and job schedulers use it: output, exit codes, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import engine
from engine.cli.app import COMMANDS, parse_marks
from engine.cli.summary import format_summary
from engine.config import FitConfig
from engine.errors import UsageError
from engine.run import Run
from tests.explain.people import people

ROOMS = [sys.executable, "-m", "engine"]


def rooms(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ROOMS, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "demo"
    result = rooms("demo", "--rows", 10_000, "--out", folder, "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["adjusted_rand_index"] > 0.9
    assert facts["clusters"] == 12
    return folder


def test_fit_prints_one_json_object_and_assign_uses_the_model(demo: Path, tmp_path: Path) -> None:
    options = ("--id", "user_id", "-k", 5, "--out", tmp_path / "run", "--skip", "explain, map,report")
    result = rooms("fit", demo / "members", *options, "--algorithm", "lloyd", "--reproducible", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["clusters"] == 5
    settings = FitConfig.read(tmp_path / "run" / "config.yaml")
    assert (settings.pca.algorithm, settings.kmeans.algorithm, settings.reproducible) == ("moments", "lloyd", True)
    assert result.stderr.startswith("The table groups its columns: ")
    assert result.stderr.count("\n") == 1
    ten = pq.read_table(demo / "members").slice(0, 10)
    pq.write_table(ten, tmp_path / "ten.parquet")
    result = rooms("assign", tmp_path / "ten.parquet", "--model", tmp_path / "run", "--out", tmp_path / "out.parquet")
    assert result.returncode == 0, result.stderr
    assert "10 rows assigned" in result.stdout
    assert pq.read_table(tmp_path / "out.parquet")["user_id"].equals(ten["user_id"])
    result = rooms("assign", tmp_path / "ten.parquet", "--model", tmp_path / "run", "--out", tmp_path / "out.csv")
    assert result.returncode == 2
    assert "named as csv, but tables are written as Parquet" in result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_cuml_is_refused_without_a_gpu(demo: Path, tmp_path: Path) -> None:
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    result = rooms("fit", demo / "members", "--algorithm", "cuml", "--out", tmp_path / "run", env=no_gpu)
    assert result.returncode == 4
    assert "pca.algorithm=cuml was asked for, but the device is cpu, because" in result.stderr
    result = rooms("fit", demo / "members", "--algorithm", "cuml", "--device", "cpu", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_fit_prints_a_line_for_every_cluster_the_largest_first(demo: Path, tmp_path: Path) -> None:
    clusters = pq.read_table(demo / "run" / "clusters.parquet").to_pylist()
    text = format_summary(Run(demo / "run"), {})
    lines = [line.split(None, 4) for line in text.splitlines()[2:14]]
    assert [int(line[0]) for line in lines] == [c["cluster"] for c in sorted(clusters, key=lambda c: -c["size"])]
    assert all(line[4] == clusters[int(line[0])]["persona"] for line in lines)
    result = rooms("fit", demo / "members", "-k", 5, "--out", tmp_path / "run", "--skip", "explain,map")
    assert result.returncode == 0, result.stderr
    assert len([line for line in result.stdout.splitlines() if line.startswith("sizes: ")]) == 1


def test_dry_run_says_what_it_would_do_and_does_not(demo: Path, tmp_path: Path) -> None:
    result = rooms("fit", demo / "members", "--id", "user_id", "--dry-run", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["rows"] == 10_000
    assert {"column": "age", "role": "numeric", "reason": "integers"} in facts["columns"]
    assert "plan: Basic" in facts["features"]
    assert facts["memory_bytes"] > 0 < facts["seconds"]
    assert not list(tmp_path.iterdir())
    options = ("--missing", "household_size=1, 2", "--missing", "age=")
    text = rooms("fit", demo / "members", "--id", "user_id", *options, "--dry-run").stdout
    assert "missing values written as 1, 2\n" in text
    assert "multilabel" in text
    assert "memory: about" in text


def test_marks_of_missing_values_are_given_by_column() -> None:
    assert parse_marks(["a=-999, 99", "a=1", "b=", "c=d=n/a"]) == {"a": ["-999", "99", "1"], "b": [], "c=d": ["n/a"]}
    assert parse_marks(['a=""', 'b=n/a, " "', 'c="a']) == {"a": [""], "b": ["n/a", " "], "c": ['"a']}
    for option in ("a", "=9"):
        with pytest.raises(UsageError, match="must read COLUMN=VALUE,VALUE"):
            parse_marks([option])


def test_roles_and_weights_are_set_by_options(demo: Path) -> None:
    options = ("--role", "age=categorical", "--role", "country=ignore", "--weight", "interests=3")
    facts = json.loads(rooms("fit", demo / "members", "--id", "user_id", *options, "--dry-run", "--json").stdout)
    assert {"column": "age", "role": "categorical", "reason": "set"} in facts["columns"]
    assert not [name for name in facts["features"] if name.startswith("country")]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("fit", "absent.parquet", "--out", "x"), 3, "no file or folder absent.parquet"),
        (("fit", "{members}", "--out", "x", "--id", "uid"), 3, "no column 'uid'"),
        (("fit", "absent.parquet", "--out", "x", "--id", "margin"), 2, "cannot be named 'margin'"),
        (("fit", "absent.parquet", "--dry-run", "--id", "map_x"), 2, "cannot be named 'map_x'"),
        (("fit", "{members}", "--out", "x", "-k", "many"), 2, "-k many must be"),
        (("fit", "{members}", "--id", "user_id", "--out", "x", "-k", "9" * 20), 3, "distinct rows, but the table has"),
        (
            ("fit", "{members}", "--id", "user_id", "--dry-run", "-k", "1000000000"),
            3,
            "distinct rows, but the table has",
        ),
        (("fit", "{members}", "--out", "x", "--k-range", "2:" + "9" * 20), 2, "less than or equal to 1000000"),
        (("fit", "{members}"), 2, "--out is missing"),
        (("fit", "{members}", "--out", "x", "--role", "age"), 2, "must read NAME=VALUE"),
        (("fit", "{members}", "--out", "x", "--role", "age=old"), 2, "features.roles.age"),
        (("fit", "{members}", "--out", "x", "--device", "cuda"), 4, "'cuda'"),
        (("fit", "{members}", "--out", "{run}", "--id", "user_id"), 5, "already exists"),
        (("fit", "{members}", "--bogus"), 2, "--bogus"),
        (("fit", "{members}", "--k", "5"), 2, "No such option: --k (Possible options: -k)"),
        (("similar", "{run}", "1", "--n=5"), 2, "No such option: --n (Possible options: -n)"),
        (("show", "{run}", "--k", "5"), 2, "No such option: --k"),
        (("assign", "{members}", "--model", "x", "--out", "y"), 6, "not a complete run"),
    ],
)
def test_errors_say_what_is_wrong_and_have_their_own_exit_code(
    demo: Path, tmp_path: Path, arguments: tuple[str, ...], exit_code: int, message: str
) -> None:
    paths = {"members": demo / "members", "run": demo / "run"}
    result = rooms(*(argument.format(**paths) for argument in arguments), cwd=tmp_path)
    assert result.returncode == exit_code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in rooms("fit", "absent.parquet", "--out", "x", "--debug").stderr


@pytest.mark.parametrize(
    ("number", "word", "exit_code"), [(signal.SIGINT, "Interrupted", 130), (signal.SIGTERM, "Terminated", 143)]
)
def test_an_interrupted_fit_leaves_nothing_behind(
    demo: Path, tmp_path: Path, number: int, word: str, exit_code: int
) -> None:
    patch = "import time, engine.pipeline.night as p; p.open_table = lambda *a, **k: time.sleep(60)"
    code = f"{patch}; import sys; sys.argv = {['rooms', 'fit', str(demo / 'members'), '--out', str(tmp_path / 'x')]}"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('ready', flush=True); from engine.cli import main; main()"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1.5)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == exit_code, errors
    assert errors == f"error: {word}.\n"
    assert not list(tmp_path.iterdir())


def test_doctor_says_what_can_run_and_why_not() -> None:
    result = rooms("doctor", "--json")
    assert result.returncode == 0, result.stderr
    checks = json.loads(result.stdout)
    assert checks["auto"]["finding"] == f"cpu, because {checks['cuda']['finding']}"
    assert not checks["cuda"]["ok"]
    assert "asked for" not in result.stdout
    assert "threads" in checks["cpu"]["finding"]
    assert "compiled here are kept in" in checks["kernels"]["finding"]


def test_help_and_version_answer_without_loading_the_engine() -> None:
    version = rooms("--version")
    assert version.stdout == f"rooms engine {engine.__version__}\n"
    help_text = rooms("--help").stdout
    positions = [help_text.index(f" {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    trace = rooms("--help", env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    assert "engine.cli" in trace
    assert not [name for name in ("sklearn", "numba", "pyarrow") if f" {name}\n" in trace]


@pytest.fixture(scope="module")
def assigned_run(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a small fit, beside in.parquet, a table of ten rows that its model assigns."""
    folder = tmp_path_factory.mktemp("paths")
    pq.write_table(pq.read_table(demo / "members").slice(0, 500), folder / "in.parquet")
    engine.fit(
        folder / "in.parquet",
        out=folder / "run",
        id="user_id",
        n_clusters=3,
        config=FitConfig(skip=("explain", "map", "report")),
    )
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("assign", "in.parquet", "--model", "run", "--out", "in.parquet"),
        ("assign", "in.parquet", "--model", "run", "--out", "run"),
        ("assign", "run/assignments/part-00000.parquet", "--model", "run", "--out", "run"),
        ("fit", "run/assignments", "--out", "run"),
        ("fit", "in.parquet", "--out", "in.parquet"),
        ("fit", "in.parquet", "--previous", "run", "--out", "run"),
        ("fit", "in.parquet", "--dry-run", "--out", "in.parquet"),
        ("compare", "run", "run", "--out", "run"),
        ("compare", "run", "run", "--out", "run/clusters.parquet"),
        ("profiles", "--ratings", "in.parquet", "--items", "items.csv", "--out", "in.parquet"),
        ("profiles", "--ratings", "r.csv", "--items", "in.parquet", "--out", "in.parquet"),
        ("profiles", "--ratings", "r.csv", "--items", "i.csv", "--users", "in.parquet", "--out", "in.parquet"),
    ],
)
def test_an_output_that_would_destroy_an_input_is_refused(assigned_run: Path, arguments: tuple[str, ...]) -> None:
    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in assigned_run.rglob("*") if path.is_file()}

    before = contents()
    result = rooms(*arguments, "--overwrite", cwd=assigned_run)
    assert result.returncode == 5, result.stderr
    assert "error: The output " in result.stderr
    assert "would change what is read" in result.stderr
    assert contents() == before


@pytest.mark.parametrize("name", ["~/today", "nights/2026-11-29T22:00", "run[1]*"])
def test_every_name_of_a_folder_is_a_name_for_a_run(
    assigned_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = FitConfig(skip=("explain",))
    run = engine.fit(assigned_run / "in.parquet", out=name, id="user_id", n_clusters=3, config=config)
    assert (tmp_path / name / "_SUCCESS").is_file()
    assert len(run.assignments) == 500
    assert len(run.map) == 500
    assert run.report().is_file()
    assert engine.compare(run, name).n_common == 500
    assert run.model.assign(assigned_run / "in.parquet", out=f"{name}-new") == Path(f"{name}-new")
    assert run.model.assign(assigned_run / "in.parquet", out=f"{name}.parquet") == Path(f"{name}.parquet")
    assert (tmp_path / f"{name}.parquet").is_file()
    assert not (tmp_path / "home").exists()


def test_a_link_to_nothing_is_refused_before_the_work(assigned_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("gone")
    result = rooms("fit", assigned_run / "in.parquet", "--out", tmp_path / "run")
    assert result.returncode == 5
    assert "is a link to gone, which is not there" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_is_fine_where_its_summary_cannot_be_printed(assigned_run: Path, tmp_path: Path) -> None:
    table = pq.read_table(assigned_run / "in.parquet", columns=["user_id", "age"]).rename_columns(["user_id", "größe"])
    pq.write_table(table, tmp_path / "in.parquet")
    (tmp_path / "c.yaml").write_bytes("features: {roles: {größe: numeric}}\nskip: [map, report]\n".encode())
    command = f"{sys.executable} -m engine fit in.parquet --id user_id -k 3 --config c.yaml --overwrite --out run"
    plain = dict(os.environ) | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    results = [
        subprocess.run(command + streams, shell=True, cwd=tmp_path, env=plain, capture_output=True, check=False)
        for streams in ("", " >&-", " >/dev/full", " <&- >&- 2>&-", " | true")
    ]
    assert [result.returncode for result in results] == [0] * 5, results
    assert rb"gr\xf6\xdfe" in results[0].stdout
    assert b"stdout cannot be written (No space left on device), but run is complete" in results[2].stderr
    assert b"stdout" not in results[1].stderr


def test_a_command_that_only_prints_fails_where_it_cannot() -> None:
    command = f"{sys.executable} -m engine doctor"
    full = subprocess.run(command + " >/dev/full", shell=True, capture_output=True, text=True, check=False)
    assert (full.returncode, full.stderr) == (4, "error: stdout cannot be written: No space left on device.\n")


def test_show_prints_the_clusters_and_what_sets_them_apart(tmp_path: Path) -> None:
    config = FitConfig.merge({}, skip=["map", "report"])
    run = engine.fit(people(600), out=tmp_path / "run", id="who", n_clusters=3, config=config)
    text = rooms("show", str(run.path)).stdout
    lines = text.splitlines()
    for persona in run.personas:
        (line,) = [line for line in lines if line.endswith(f"  {persona['name']}")]
        assert line.split()[:2] == [str(persona["cluster"]), f"{persona['users']:,}"]
        trait = persona["profile"][0]
        assert f"{trait['what']} {trait['here']} (everybody: {trait['everybody']})" in text
    clusters = json.loads(rooms("show", str(run.path), "--json").stdout)["clusters"]
    assert [cluster["size"] for cluster in clusters] == sorted((p["users"] for p in run.personas), reverse=True)
    bare = FitConfig.merge({}, skip=["explain", "map", "report"])
    engine.fit(people(200), out=tmp_path / "bare", id="who", n_clusters=2, config=bare)
    assert rooms("show", str(tmp_path / "bare")).returncode == 0


@pytest.mark.parametrize("arguments", [["show", "nowhere"], ["fit", "nowhere.csv", "--out", "out"]])
def test_errors_are_json_as_well(arguments: list[str]) -> None:
    plain, result = rooms(*arguments), rooms(*arguments, "--json")
    assert plain.stdout == ""
    facts = json.loads(result.stdout)
    assert facts["exit_code"] == result.returncode == plain.returncode > 0
    assert result.stderr == plain.stderr
    assert facts["message"] in result.stderr
    assert set(facts) == {"error", "message", "hint", "exit_code"}
    assert facts["error"].endswith("Error")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "table.csv", "--bogus"], "--bogus"),
        (["fit"], "SOURCE"),
        (["nothing"], "nothing"),
        (["similar", "run", "3", "-n", "x"], "'-n'"),
    ],
)
def test_errors_of_usage_are_json_as_well(arguments: list[str], words: str) -> None:
    plain, result = rooms(*arguments), rooms(*arguments, "--json")
    assert plain.stdout == ""
    facts = json.loads(result.stdout)
    assert facts["exit_code"] == result.returncode == plain.returncode == 2
    assert facts["error"] == "UsageError"
    assert words.lower() in facts["message"].lower()
    assert result.stderr == plain.stderr


def test_rooms_alone_says_what_to_do_first() -> None:
    text = rooms().stdout
    assert "Begin with `rooms demo`" in " ".join(text.split())
    assert "--install-completion" in text
