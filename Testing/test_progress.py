"""Progress: counts, time left, cancelling."""

import io
import json

import pytest

from Agg2ExpLib.errors import Cancelled
from Agg2ExpLib.progress import JsonLinesSink, Progress, TerminalSink


def test_the_time_left_follows_from_what_is_done():
    now, events = [0.0], []
    progress = Progress(events.append, clock=lambda: now[0])
    progress.stage("work", 4, "first")
    for second in (10.0, 20.0, 30.0, 40.0):
        now[0] = second
        progress.advance()
    assert [event.seconds_left for event in events] == [None, 30.0, 20.0, 10.0, 0.0]
    assert events[-1].done == events[-1].total == 4


def test_what_an_earlier_run_did_says_nothing_of_the_pace():
    now, events = [0.0], []
    progress = Progress(events.append, clock=lambda: now[0])
    progress.stage("cases", 100, before=90)
    now[0] = 30.0
    progress.advance()
    assert [(event.done, event.seconds_left) for event in events] == [(90, None), (91, 270.0)]
    stream = io.StringIO()
    progress = Progress(TerminalSink(stream))
    progress.stage("cases", 4, before=3)
    progress.advance()
    assert "4/4" in stream.getvalue()


def test_cancelling_stops_at_the_next_step_and_names_the_stage():
    stop = []
    progress = Progress(cancelled=lambda: bool(stop))
    progress.stage("segmentation", 3)
    progress.advance()
    stop.append(True)
    with pytest.raises(Cancelled, match="during segmentation"):
        progress.advance()


def test_json_lines_hold_everything_that_is_known():
    stream = io.StringIO()
    progress = Progress(JsonLinesSink(stream))
    progress.stage("work", 2)
    progress.advance(detail="heart")
    progress.message("a note")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["kind"] for line in lines] == ["progress", "progress", "message"]
    assert (lines[1]["stage"], lines[1]["done"], lines[1]["total"], lines[1]["detail"]) == ("work", 1, 2, "heart")


def test_a_terminal_shows_stage_count_and_messages():
    stream = io.StringIO()
    progress = Progress(TerminalSink(stream))
    progress.stage("segmentation", 2)
    progress.message("a note")
    progress.advance(2)
    assert "segmentation" in stream.getvalue()
    assert "2/2" in stream.getvalue()
    assert "a note" in stream.getvalue()
