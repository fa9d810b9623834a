"""The report page: plain values in, HTML and SVG text out. Nothing here reads a file."""
