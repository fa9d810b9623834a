"""The drawn world: scenes whose every word is known, so that a description can be marked right or wrong."""
