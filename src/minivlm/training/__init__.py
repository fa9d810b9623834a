"""Training: schedule, optimizer and freezing, the one loop, cost."""
