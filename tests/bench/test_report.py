"""What the benchmarks make of their figures: medians, ratios, bars, tables and pictures."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import bars
import plot
import pytest
import report
import tables
from costs import Held, per_connection
from figures import BESIDE_P99, DOWN_1, FLOODED_P99, KEEP_ALIVE, POST, RATES, SHRUNK_KIB, Figures, measure
from loads import read_wrk
from programs import BenchError
from systems import HOP, HTTP, JOIN, Door, System, ours

SVG = "{http://www.w3.org/2000/svg}"


def figures_of(**rounds: list[float]) -> Figures:
    figures = Figures()
    for system, values in rounds.items():
        for value in values:
            figures.add(system, KEEP_ALIVE, value)
    return figures


def test_a_figure_is_the_median_of_its_rounds() -> None:
    figures = figures_of(a=[1.0, 100.0, 3.0], b=[6.0])
    assert figures.get("a", KEEP_ALIVE) == 3.0
    assert figures.ratio("a", KEEP_ALIVE, "b") == 0.5
    assert figures.systems(KEEP_ALIVE) == ["a", "b"]


def test_what_was_not_measured_has_no_figure_and_no_ratio() -> None:
    figures = figures_of(a=[1.0])
    assert figures.get("b", KEEP_ALIVE) is None
    assert figures.ratio("a", KEEP_ALIVE, "b") is None
    assert figures.ratio("b", KEEP_ALIVE, "a") is None
    assert figures.per("a", KEEP_ALIVE, POST) is None
    assert figures.per("b", KEEP_ALIVE, KEEP_ALIVE) is None


def test_all_systems_take_their_turn_in_every_round() -> None:
    turns: list[str] = []

    def take(system: System) -> dict[str, float]:
        turns.append(system.name)
        return {} if system.name == "b" else {KEEP_ALIVE: float(len(turns))}

    figures = Figures()
    measure([System("a", Door(1)), System("b", Door(2))], {"load": take}, 3, lambda text: None, figures)
    assert turns == ["a", "b"] * 3
    assert figures.get("a", KEEP_ALIVE) == 3.0
    assert figures.systems(KEEP_ALIVE) == ["a"]


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict"),
    [(0.5, False, "missed"), (1.0, False, "bar"), (2.0, False, "goal"), (3.0, True, "missed"), (2.0, True, "bar")],
)
def test_a_bar_says_what_was_reached(measured: float, at_most: bool, verdict: str) -> None:
    goal = 0.5 if at_most else 1.5
    bar = bars.Bar("what", lambda figures: measured, 2.0 if at_most else 1.0, goal, at_most=at_most)
    assert bar.row(Figures())[-1] == verdict


def test_every_bar_can_be_shown_before_anything_is_measured() -> None:
    rows = bars.rows(Figures())
    assert all(row[3:] == ["not measured", ""] for row in rows)
    assert len({row[0] for row in rows}) == len(rows)


def test_bars_compare_ours_with_the_peers_of_the_same_run() -> None:
    figures = Figures()
    tls = ours(HTTP, encrypted=True)
    for name, rate in ((HOP, 1000.0), (ours(JOIN), 600.0), (tls, 200.0)):
        figures.add(name, KEEP_ALIVE, rate)
    for name, figure in ((POST, 180.0), (BESIDE_P99, 2.0), (FLOODED_P99, 5.0), (SHRUNK_KIB, 39.0)):
        figures.add(tls, name, figure)
    measured = {row[0]: row[3:] for row in bars.rows(figures)}
    assert measured[f"join: {KEEP_ALIVE}, of haproxy"] == ["0.60 x", "bar"]
    assert measured[f"http, TLS: {KEEP_ALIVE}, of haproxy"] == ["0.20 x", "missed"]
    assert measured[f"http, TLS: {POST}, of {KEEP_ALIVE}"] == ["0.90 x", "bar"]
    assert measured["http, TLS: p99 beside a flooded tunnel, of that beside nginx flooded"] == ["2.50 x", "bar"]
    assert measured["http, TLS: idle tunnel, server"] == ["39.00 KiB", "goal"]
    assert measured["join, TLS: idle tunnel, server"] == ["not measured", ""]


def test_a_connection_costs_the_difference_between_many_and_few() -> None:
    held = [Held(10, 5000, 900, 0.0), Held(1000, 20_000, 3000, 0.0), Held(3000, 26_000, 7000, 0.0)]
    assert per_connection(held) == (3.0, 2.0)
    assert per_connection([Held(1000, 20_000, None, 0.0), Held(3000, 26_000, None, 0.0)]) == (3.0, None)


ANSWERED = "Requests/sec:  1234.50\n"
CLOSED = "  Socket errors: connect 0, read 7, write 0, timeout 0\n"


def test_wrk_is_read() -> None:
    assert read_wrk("ours", ANSWERED) == 1234.5
    assert read_wrk("ours", CLOSED + ANSWERED, closing=True) == 1234.5


@pytest.mark.parametrize(
    ("printed", "closing"),
    [
        ("", False),
        (CLOSED + ANSWERED, False),
        (CLOSED.replace("timeout 0", "timeout 1") + ANSWERED, True),
        ("  Non-2xx or 3xx responses: 1\n" + ANSWERED, False),
    ],
)
def test_a_request_without_an_answer_is_no_measurement(printed: str, closing: bool) -> None:
    with pytest.raises(BenchError, match="ours"):
        read_wrk("ours", printed, closing=closing)


def results() -> tables.Results:
    found = tables.Results()
    for number, name in enumerate((HOP, ours(JOIN), "a <peer> & more"), 1):
        for rate in RATES:
            found.figures.add(name, rate, 1000.0 * number)
        found.held[name] = [Held(count, 1024 * count * number, None, 0.1) for count in (10, 1000, 9000)]
    return found


def test_the_tables_show_every_system_beside_haproxy() -> None:
    text = tables.describe(results())
    assert " 2,000 (2.00) |" in text
    assert f"| {HOP} " in text
    assert DOWN_1 in text


def test_the_picture_is_whole_and_shows_what_was_measured() -> None:
    root = ElementTree.fromstring(tables.picture(results()))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert len(list(root.iter(f"{SVG}rect"))) == 3 * len(RATES)
    assert texts.count("a <peer> & more") == len(RATES) + 1
    widths = [float(bar.attrib["width"]) for bar in list(root.iter(f"{SVG}rect"))[:3]]
    assert widths[0] * 3 == pytest.approx(widths[2], rel=0.01)


@pytest.mark.parametrize("figure", [0.0, 0.3, 1.0, 7.0, 62.5, 9000.0])
def test_an_axis_ends_at_or_above_its_largest_figure(figure: float) -> None:
    picture = plot.svg([plot.Lines("title", "across", [("a", [(1.0, 0.0), (2.0, figure)])])])
    path = next(each for each in ElementTree.fromstring(picture).iter(f"{SVG}path") if "fill" in each.attrib)
    heights = [float(point.split()[1]) for point in path.attrib["d"].strip("M").split("L")]
    assert 0 < heights[1] <= heights[0]


def test_a_report_takes_the_place_of_the_last_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n")
    monkeypatch.setattr(report, "DOCUMENT", document)
    report.write("a", "new")
    report.write("a", f"newer {'w' * 82} x\n\n| {'cell | ' * 20}")
    assert document.read_text() == (
        f"before\n<!-- a -->\n\nnewer {'w' * 82}\nx\n\n| {'cell | ' * 20}\n\n<!-- end of a -->\nafter\n"
    )
    assert report.write_picture("a", "<svg/>").endswith("(benchmarks-a.svg)")
    assert (tmp_path / "benchmarks-a.svg").read_text() == "<svg/>"
    with pytest.raises(BenchError, match="has no section"):
        report.write("b", "new")
