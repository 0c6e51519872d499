"""Searches over layer paths. A search is a frozen value that is called with a measure."""

from telltale.search.greedy import GreedyRemoval
from telltale.search.removal import Kept, Removal, Round

__all__ = ["GreedyRemoval", "Kept", "Removal", "Round"]
