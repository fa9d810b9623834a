"""A saved model as others ask for it: an OpenAI-compatible address, MLflow's scoring server, a page."""
