"""Pictures and questions → answers, with a saved LLaVA directory: for scores, for the terminal, for servers."""
