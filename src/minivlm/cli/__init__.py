"""The `minivlm` command."""
