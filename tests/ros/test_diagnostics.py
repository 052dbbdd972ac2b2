# SPDX-License-Identifier: Apache-2.0
"""What monitors see, at times of our choosing."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from qwen3vl_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics


class Desk:
    """Diagnostics, and a clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.diagnostics = Diagnostics(node_name="qwen3vl", clock=lambda: self.now)
        self.diagnostics.watch_topic("image", topic="/camera/image", needed=True)
        self.diagnostics.watch_topic("depth", topic="/camera/depth", needed=False)

    def receive(self, *ages_s: float | None) -> None:
        for age_s in ages_s:
            self.diagnostics.arrived("image", age_s=age_s)

    def status(self, name: str) -> DiagnosticStatus:
        return next(s for s in self.diagnostics.statuses() if s.name == f"qwen3vl: {name}")

    def value(self, name: str, key: str) -> str:
        return next(v.value for v in self.status(name).values if v.key == key)


def test_a_topic_that_never_spoke_is_an_error_only_where_it_is_needed():
    desk = Desk()
    image, depth = desk.status("image topic status"), desk.status("depth topic status")
    assert (image.level, image.message) == (ERROR, "No events recorded.")
    assert (depth.level, depth.message) == (WARN, "No events recorded.")
    assert image.hardware_id


def test_a_topic_that_fell_silent_is_noticed_and_forgiven():
    desk = Desk()
    desk.receive(0.1)
    assert desk.status("image topic status").level == OK
    desk.now += 6
    status = desk.status("image topic status")
    assert (status.level, status.message) == (ERROR, "No data since last update.")
    desk.receive(0.1)
    assert desk.status("image topic status").level == OK


def test_the_rate_is_that_of_the_last_seconds():
    desk = Desk()
    for _ in range(100):
        desk.receive(0.05)
        desk.now += 0.1
    assert desk.value("image topic status", "Actual frequency (Hz)") == "10.00"
    assert desk.value("image topic status", "Events since startup") == "100"


@pytest.mark.parametrize(
    ("ages_s", "message"),
    [
        pytest.param([0.1, None], "Zero timestamp seen.", id="zero"),
        pytest.param([0.1, -10.0], "Timestamps too far in future seen.", id="future"),
        pytest.param([20.0, 0.1], "Timestamps too far in past seen.", id="past"),
    ],
)
def test_stamps_that_cannot_be_right_are_errors(ages_s, message):
    desk = Desk()
    desk.receive(*ages_s)
    status = desk.status("image topic status")
    assert (status.level, status.message) == (ERROR, message)


def test_a_fault_lasts_until_its_place_works_again_and_is_counted_for_ever():
    desk = Desk()
    desk.receive(0.1)
    desk.diagnostics.fault("image", "encoding is 'foo8'")
    status = desk.status("image topic status")
    assert (status.level, status.message) == (ERROR, "encoding is 'foo8'")
    desk.diagnostics.recovered("image")
    assert desk.status("image topic status").level == OK
    assert desk.value("image topic status", "Faults since startup") == "1"
    assert desk.value("image topic status", "Last fault") == "encoding is 'foo8'"


def test_a_warning_does_not_hide_an_error():
    desk = Desk()
    desk.diagnostics.fault("image", "odd", level=WARN)
    status = desk.status("image topic status")
    assert (status.level, status.message) == (ERROR, "No events recorded.; odd")


def test_losses_on_the_way_are_a_warning_that_lapses():
    """They once went to the log only, and the topic stayed green while most pictures were lost."""
    desk = Desk()
    desk.receive(0.1)
    assert desk.diagnostics.lost("image", "messages are lost", total=7), "worth a line in the log"
    status = desk.status("image topic status")
    assert (status.level, status.message) == (WARN, "messages are lost")
    assert desk.value("image topic status", "Messages lost in transport") == "7"
    desk.now += 4.9
    desk.receive(0.1)
    assert desk.status("image topic status").level == WARN
    desk.now += 0.2
    assert desk.status("image topic status").level == OK


def test_losses_do_not_hide_what_is_wrong_with_the_pictures_that_come():
    desk = Desk()
    desk.receive(0.1)
    desk.diagnostics.fault("image", "encoding is 'foo8'")
    desk.diagnostics.lost("image", "messages are lost", total=1)
    status = desk.status("image topic status")
    assert (status.level, status.message) == (ERROR, "encoding is 'foo8'; messages are lost")


def test_a_fault_that_no_status_would_show_is_our_own_mistake():
    with pytest.raises(AssertionError, match="nobody would see"):
        Desk().diagnostics.fault("picture", "odd")


def test_a_fault_is_worth_a_line_in_the_log_once_in_ten_seconds():
    desk = Desk()
    said = []
    for _ in range(25):
        said.append(desk.diagnostics.fault("transform", "missing"))
        desk.now += 1
    assert [n for n, worth in enumerate(said) if worth] == [0, 10, 20]


def test_processing_times_are_not_available_before_the_first_answer():
    desk = Desk()
    assert desk.value("inference", "processing_time_ms") == "n/a"
    desk.diagnostics.answered(seconds=0.25, age_s=0.3)
    desk.diagnostics.answered(seconds=0.35, age_s=None)
    assert desk.value("inference", "processing_time_ms") == "350.0"
    assert desk.value("inference", "processing_time_ms max") == "350.0"
    assert desk.value("inference", "pipeline_latency_ms") == "n/a"
    assert desk.value("inference", "answers") == "2"
