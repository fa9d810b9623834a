"""Both layouts of the original's data sets -> record batches with the columns of the download stage.

- reader.py: which layout a file has, by its content
- parquet.py: Parquet, conversations as JSON text or a list, one picture a row or a list of them
- jsonl.py, jsonl_row.py: JSON lines beside a folder or a zip of pictures; one line
- picture_files.py, picture_zip.py: a picture by the name that a row gives it
- examples.py: the example files of the documentation

Rows are streamed. Nothing is dropped: what cannot be read is a row with its number and its `fault`.
"""
