"""The experiment that goes on from a real model: two bodies of one start, its arms, their training and measures."""
