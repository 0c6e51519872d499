"""Searches over layer paths. A search is a frozen value that is called with a measure."""

from telltale.searches.greedy import GreedyRemoval
from telltale.searches.removal import Kept, Removal, Round

__all__ = ["GreedyRemoval", "Kept", "Removal", "Round"]
