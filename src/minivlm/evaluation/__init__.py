"""Evaluation: captions, metrics, report."""
