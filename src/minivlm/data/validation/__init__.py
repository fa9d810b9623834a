"""The data gate: rows -> metadata columns -> Great Expectations -> accepted row numbers and a report per file.

- conversation.py, picture.py: the facts of one conversation, of one picture; what counts as a picture
- metadata.py, frame.py: rows -> metadata frames, streamed, in worker processes
- expectations.py: the checks, declared and run
- gate.py: which rows pass, which are rejected and why, and whether the file passes
- report.py, docs.py: the JSON reports and the error line; Data Docs that open without a network
"""
