"""What a training step, the loader, generation and the pipeline cost: one command each, one table, one JSON file.

`python -m benchmarks` runs all of them, `python -m benchmarks.<name> --help` says what one measures. They are no
part of the installed package. Results lie in benchmarks/results/ with the machine and the versions measured on.
"""
