"""Botify's JSON data log: written from an export, or imported into the topic.

A line is one call of Botify's API: a listen, and the recommendation that led to the *following* listen of its session
(track, treatments, and latency in seconds).
"""
