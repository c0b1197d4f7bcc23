"""Feeds: each follower goes through all rounds, in its own time, and what all have read is not
kept.
"""

import threading

import pytest
import torch

from tombola.experiments.feeds import Feed, feeds_of
from tombola.ground.errors import SourceFailedError
from tombola.ground.settings import Training
from tombola.methods.setting import Found
from tombola.schema.recipe import parse
from tombola.training.jobs import Job

WEIGHTS = 80_000


def found(number):
    draw = torch.Generator().manual_seed(number)
    mask = {"w": torch.rand(200, 400, generator=draw) < 0.5, "one": torch.tensor(True)}
    start = {"w": torch.zeros(200, 400), "one": torch.tensor(1.0)}
    return Found(
        Job(start, mask, Training(epochs=1), seed=number, first=number), samples=100 * number
    )


def same(one, other):
    alike = all(torch.equal(one.job.mask[name], other.job.mask[name]) for name in other.job.mask)
    return alike and one.job.digest("t") == other.job.digest("t") and one.samples == other.samples


def test_followers_read_all_rounds_whenever_they_come():
    rounds = [found(number) for number in range(4)]
    feed = Feed(readers=2)
    feed.put(rounds[0])
    early = iter(feed)
    assert same(next(early), rounds[0])
    for each in rounds[1:]:
        feed.put(each)
    feed.end()
    assert all(map(same, early, rounds[1:]))
    late = list(feed)
    assert len(late) == 4
    assert all(map(same, late, rounds))


def test_a_follower_waits_for_the_next_round():
    feed, read = Feed(readers=1), []
    reader = threading.Thread(target=lambda: read.extend(feed))
    reader.start()
    feed.put(found(1))
    feed.end()
    reader.join(60)
    assert [each.samples for each in read] == [100]


def test_a_failure_is_told_after_the_rounds_that_there_were():
    feed = Feed(readers=1)
    feed.put(found(1))
    feed.end("arm lth, replicate 0")
    rounds = iter(feed)
    next(rounds)
    with pytest.raises(SourceFailedError, match="arm lth, replicate 0"):
        next(rounds)


def bytes_waiting(feed):
    return sum(
        bits.nbytes for waiting in feed._waiting.values() for bits, _ in waiting.bits.values()
    )


def test_a_round_that_waits_takes_a_bit_a_weight_and_one_that_all_have_read_nothing():
    feed = Feed(readers=2)
    for number in range(5):
        feed.put(found(number))
    feed.end()
    assert bytes_waiting(feed) == 5 * (WEIGHTS // 8 + 1)
    list(feed)
    assert bytes_waiting(feed) == 5 * (WEIGHTS // 8 + 1)
    list(feed)
    assert feed._waiting == {}


def test_rounds_that_nobody_follows_are_not_kept():
    feed = Feed(readers=0)
    feed.put(found(1))
    assert feed._waiting == {}


def test_every_arm_has_a_feed_for_those_that_follow_it_in_its_replicate():
    whole = {
        "name": "x", "training": {"epochs": 1}, "until": {"rounds": 1},
        "arms": {
            "lth": {"method": "lth", "rate": 0.2}, "matched": {"match": "lth"},
            "random": {"method": "random_ticket", "source": "lth"},
            "again": {"method": "reordered", "source": "matched"},
            "long": {"method": "dense", "as_long_as": "lth"},
        },
    }  # fmt: skip
    arms = parse(whole).arms
    feeds = feeds_of(arms, [(name, 0) for name in arms] + [("lth", 1), ("long", 1)])
    readers = {key: feed._readers for key, feed in feeds.items() if feed._readers}
    assert readers == {("lth", 0): 3, ("matched", 0): 1, ("lth", 1): 1}
