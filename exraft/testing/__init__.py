"""Simulated clusters, and a checker of linearizability: for our tests and our users'."""
