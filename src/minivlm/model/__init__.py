"""Models: base models, projector, LLaVA assembly, checkpoints."""
