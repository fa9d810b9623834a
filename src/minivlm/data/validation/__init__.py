"""The data gate: what is expected of every table that crosses a stage, and which rows pass.

Rows -> metadata columns -> Great Expectations -> accepted row numbers and a report per file.

- conversation.py, picture.py, likeness.py: the facts of one conversation, of one picture; what it looks like
- parquet_rows.py, metadata.py, frame.py: rows -> metadata frames, streamed, in worker processes
- picture_table.py, digests.py: what is kept of all pictures and rows, some tens of bytes each
- checks.py, engine.py, findings.py, verdict.py: a check; the run of Great Expectations; what it found
- expectations.py, row_findings.py, statistics.py, gate.py: the raw files: their checks, what their rows are like,
  which pass and which are rejected and why
- accepted.py: what validate writes
- token_facts.py, picture_usage.py, token_checks.py, store_gate.py: what tokenize writes
- report.py, docs.py: the JSON reports and the error line; Data Docs that open without a network
"""
