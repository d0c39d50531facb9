"""What a running process tells about itself: metrics for Prometheus, and whether it is alive and ready."""
