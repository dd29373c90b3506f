"""Progress in the terminal, and where there is none."""

import contextlib
import io

import pytest
from rich.console import Console

import cli


@pytest.fixture
def terminal(monkeypatch):
    """Replaces console and clock; returns (what was printed, the clock's hands)."""
    printed, clock = io.StringIO(), [100.0]
    console = Console(file=printed, highlight=False, soft_wrap=True, force_terminal=False)
    monkeypatch.setattr(cli, "console", console)
    monkeypatch.setattr(cli.time, "monotonic", lambda: clock[0])
    return printed, clock


def test_progress_without_a_terminal_prints_plain_lines_every_ten_seconds(terminal):
    printed, clock = terminal
    with cli.progress("index", 40) as report:
        for seconds, done in ((5, 1), (11, 10), (15, 15), (22, 30), (30, 40)):
            clock[0] = 100.0 + seconds
            report(done)
    assert printed.getvalue().splitlines() == [
        "index      10/40  1.5/s  20 s left",  # 9 in 6 s
        "index      30/40  1.7/s  6 s left",  # 29 in 17 s
        "index      40/40  30.0 s",
    ]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_of_resumed_work_counts_what_it_does_itself(terminal, monkeypatch, is_terminal):
    printed, clock = terminal
    if is_terminal:
        console = Console(file=printed, force_terminal=True, width=200, _environ={})
        monkeypatch.setattr(cli, "console", console)
    with cli.progress("epoch 2/9", 1000) as report:
        for seconds, done, words in ((11, 900, "first"), (16, 910, "second"), (22, 922, "third")):
            clock[0] = 100.0 + seconds
            report(done, words)
    text = printed.getvalue()
    assert "2.0/s" in text
    if is_terminal:
        assert "900/s" not in text
    else:
        assert text.splitlines() == [
            "epoch 2/9  900/1000  first",
            "epoch 2/9  922/1000  2.0/s  39 s left  third",
            "epoch 2/9  922/1000  22.0 s",
        ]


def test_progress_of_work_that_ends_early_says_how_far_it_came(terminal):
    printed, clock = terminal
    with cli.progress("rates", 100) as report:
        report(60)
        clock[0] += 3
    assert printed.getvalue() == "rates      60/100  3.0 s\n"


def test_progress_of_quick_work_is_its_last_line_alone(terminal):
    printed, clock = terminal
    with cli.progress("write", 2) as report:
        report(1)
        report(2)
        clock[0] += 0.25
    assert printed.getvalue() == "write      2/2  0.2 s\n"


def test_progress_of_nothing_divides_by_nothing(terminal):
    printed, clock = terminal
    with cli.progress("write", 0) as report:
        clock[0] += 20
        report(0)
    assert printed.getvalue() == "write      0/0  20.0 s\n"


def test_progress_of_work_that_fails_does_not_claim_to_be_done(terminal):
    printed, _ = terminal
    with contextlib.suppress(ValueError), cli.progress("write", 9) as report:
        report(3)
        raise ValueError
    assert printed.getvalue() == ""
