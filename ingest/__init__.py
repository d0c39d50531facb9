"""Datasets: real logs, imported once into one form that is evaluated and published."""
