"""The time left in all, as a range that is as wide as what is not known; and the question before long work."""

from Agg2ExpLib.progress import Progress


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def worked(progress, clock, units, seconds):
    for _ in range(units):
        clock.now += seconds
        progress.advance()


def test_the_total_counts_the_stages_to_come():
    events, clock = [], Clock()
    progress = Progress(events.append, clock=clock)
    progress.plan([("segmentation", 4, 4), ("attributions", 10, 30)])
    progress.stage("segmentation", 4)
    assert events[-1].least_left is None, "nothing was timed yet"
    worked(progress, clock, 1, 2.0)
    assert (events[-1].seconds_left, events[-1].least_left, events[-1].most_left) == (6.0, 26.0, 66.0)
    worked(progress, clock, 3, 2.0)
    progress.stage("attributions", 20)
    assert events[-1].least_left == events[-1].most_left == 40.0, (
        "what it takes is known now; its pace is taken to be the same"
    )
    worked(progress, clock, 10, 3.0)
    assert events[-1].least_left == events[-1].most_left == 30.0


def test_it_asks_once_before_work_that_is_longer_than_the_limit_and_waiting_is_no_work():
    events, clock, asked = [], Clock(), []

    def ask():
        asked.append(clock.now)
        clock.now += 1000.0

    progress = Progress(events.append, clock=clock, ask=ask, ask_above=100.0)
    progress.plan([("segmentation", 4, 4), ("attributions", 10, 1000)])
    progress.stage("segmentation", 4)
    worked(progress, clock, 4, 2.0)
    assert asked == [], "it may be long, and may be short"
    progress.stage("attributions", 200)
    worked(progress, clock, 10, 2.0)
    assert len(asked) == 1
    assert [event.least_left for event in events if event.kind == "question"] == [2.0 * 197]
    assert events[-1].least_left == 2.0 * 190


def test_short_work_is_never_asked_about():
    asked, clock = [], Clock()
    progress = Progress(lambda event: None, clock=clock, ask=lambda: asked.append(1), ask_above=100.0)
    progress.stage("attributions", 20)
    worked(progress, clock, 20, 2.0)
    assert asked == []


def test_units_that_are_told_together_are_timed_together():
    events, clock = [], Clock()
    progress = Progress(events.append, clock=clock)
    progress.stage("attributions", 24)
    for window in range(1, 8):
        clock.now += 3.0 if window == 1 else 2.0
        for _unit in range(3):
            clock.now += 0.001
            progress.advance()
        left = 2.0 * (8 - window)
        assert abs(events[-1].least_left - left) <= (0.51 if window == 1 else 0.02) * left, window
