"""The operator's commands on topics and state: verify, replay, dead letters, snapshots."""
