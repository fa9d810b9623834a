"""What is generated in README*.md and docs/: text and figures from reports/, params.yaml and the code."""
