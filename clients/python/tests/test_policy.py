import unittest
from unittest import mock

from corewire.policy import AfterClose, after_close, matches, pause, refresh_in


class Policy(unittest.TestCase):
    def test_every_close_code_has_its_consequence(self):
        special = {
            1013: AfterClose.RETRY_LATER,
            4001: AfterClose.NEW_TOKEN,
            4002: AfterClose.NEW_TOKEN,
            4003: AfterClose.FINAL,
            4004: AfterClose.RETRY_LATER,
            4005: AfterClose.RETRY_LATER,
        }
        for code in range(1000, 5000):
            self.assertIs(after_close(code), special.get(code, AfterClose.RETRY), code)

    def test_the_bound_of_pauses_doubles_up_to_the_greatest(self):
        with mock.patch("random.random", return_value=0.5):
            wanted = [0.5, 1, 2, 4, 8, 15, 15]
            self.assertEqual([pause(attempt, 1, 30) for attempt in range(7)], wanted)
            self.assertEqual([pause(attempt, 1, 30, True) for attempt in range(7)], [1.5 * want for want in wanted])
            self.assertEqual(pause(100_000, 1, 30), 15)

    def test_pauses_are_spread_over_the_whole_bound(self):
        pauses = [pause(2, 1, 30) for _ in range(10_000)]
        for part in range(8):
            count = sum(part / 2 <= one < (part + 1) / 2 for one in pauses)
            self.assertGreater(count, 1000, f"of 10,000 in part {part} of 8")

    def test_a_newer_token_is_asked_for_before_the_old_one_ends(self):
        for expires_in, want in [(630, 600), (120, 90), (60, 45), (4, 3), (0, 0)]:
            self.assertEqual(refresh_in(expires_in), want)

    def test_patterns_match_as_the_server_matches(self):
        cases = [
            ("prices:*", "prices:eur", True),
            ("prices:*", "prices", False),
            ("prices:*", "prices:eur:usd", False),
            ("*:eur", "prices:eur", True),
            ("*:eur", "prices:usd", False),
            ("prices:**", "prices:eur", True),
            ("prices:**", "prices:eur:usd", True),
            ("prices:**", "prices", False),
            ("prices:**", "pricesX:eur", False),
            ("**", "prices", True),
            ("a:*:c", "a:b:c", True),
            ("a:*:c", "a:b:d", False),
            ("a:*:**", "a:b", False),
            ("a:*:**", "a:b:c:d", True),
        ]
        for pattern, topic, want in cases:
            self.assertIs(matches(pattern, topic), want, f"{pattern} on {topic}")
