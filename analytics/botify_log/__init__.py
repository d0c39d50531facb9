"""Botify's JSON data log: written from an export, and brought into the topic.

A line is one call of Botify's API: what was heard, and what was recommended next. So a line is a listen together with
what led to the *following* listen of its session: the recommended track, the treatments, the latency (in seconds).
"""
