"""minivlm: a reproducible pipeline that trains a small Chinese vision-language model."""

__version__ = "0.1.0"
