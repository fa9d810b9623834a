"""The data gate: what is expected of every table that crosses a stage, and which rows pass.

Rows -> metadata columns -> Great Expectations -> accepted row numbers and a report per file.

- conversation.py, picture.py, likeness.py: the facts of one conversation, of one picture; what it looks like
- parquet_rows.py, metadata.py, frame.py: rows -> metadata frames, streamed, in worker processes
- picture_table.py, digests.py: what is kept of all pictures and rows, some tens of bytes each
- expectations.py: the checks of the raw files; accepted.py: of what validate writes; token_checks.py: of what
  tokenize writes
- checks.py, engine.py: a check and its result; the run of Great Expectations
- gate.py, statistics.py: which rows pass, which are rejected and why, and what they are like
- report.py, docs.py: the JSON reports and the error line; Data Docs that open without a network
"""
