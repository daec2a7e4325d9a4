"""The generator itself, asked for as many sessions of a few users at one hour as a test wants."""

import numpy as np

from simulator.world.clicks import ClickDraws
from simulator.world.users import UserDraws
from simulator.world.visits import Visits


def drawn_clicks(world, users, time_s, sessions):
    """Clicks of many sessions that start at one time.

    Returns:
        Row of the user, position in the session and item of each click.
    """
    draws = UserDraws(world.config)
    habits = draws.habits(users)
    click_draws = ClickDraws(world.config, world.catalogue, world.shelf, draws)
    row = np.repeat(np.arange(len(users)), sessions)
    visits = Visits(row, np.full(len(row), time_s), np.tile(1_000 + np.arange(sessions), len(users)))
    started = click_draws.sessions(users, visits, habits, world.config.days)
    clicks = click_draws.draw(users, started, habits)
    first = np.repeat(np.cumsum(started.length) - started.length, started.length)
    return row[clicks.session], np.arange(len(clicks.item)) - first, clicks.item


def counted(row, item, n_users, n_items):
    """Clicks of each user on each item, shape (users, items)."""
    return np.bincount(row * n_items + item, minlength=n_users * n_items).reshape(n_users, n_items)
