"""Hostile submissions, and what the grader must make of them.

``python -m tests.attacks`` grades them all and prints the table; pytest runs the same trials.
"""
