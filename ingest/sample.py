"""A log for the tutorial and notebook 08 where there is no real one. It is made up, and says nothing about listeners.

Items belong to groups and have an order inside their group. A user prefers a few groups, and in a session walks along
one of them, now and then to any of its items. Some events share their user's second, as where a page sends several at
once.
"""

import csv
from pathlib import Path

import numpy as np

USERS, GROUPS, GROUP_SIZE = 300, 20, 20
SESSIONS, SESSION_EVENTS = 6, 6  # A user's, on average
NEXT, TIED = 0.6, 0.3  # shares of events: the next item of the group; in the second of the one before
START_S = 1_767_225_600  # 2026-01-01, UTC
DAYS = 60


def write_sample(path: Path, seed: int = 0) -> None:
    """Write the log as CSV: user, item, time in seconds, title, artist; a user hears an item once."""
    generator = np.random.default_rng(seed)
    rows = sorted(row for user in range(USERS) for row in _of_user(user, generator))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user", "item", "time", "title", "artist"))
        writer.writerows(
            (f"user {user}", f"item {item}", time, f"made-up track {item}", f"made-up artist {item // GROUP_SIZE}")
            for time, user, item in rows
        )


def _of_user(user: int, generator: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return the events of a user: time, user, item."""
    groups = generator.permutation(GROUPS)[: generator.integers(1, 4)]
    heard: set[int] = set()
    rows = []
    for _ in range(1 + generator.poisson(SESSIONS - 1)):
        time = START_S + int(generator.integers(DAYS * 86_400))
        group, place = int(generator.choice(groups)), int(generator.exponential(GROUP_SIZE / 4))
        for _ in range(1 + generator.poisson(SESSION_EVENTS - 1)):
            item = group * GROUP_SIZE + place % GROUP_SIZE
            if item not in heard:
                heard.add(item)
                rows.append((time, user, item))
            time += 0 if generator.random() < TIED else int(generator.integers(60, 400))
            place = place + 1 if generator.random() < NEXT else int(generator.exponential(GROUP_SIZE / 4))
    return rows
