"""Memory for AI agents: from the command line and from Python."""

__all__: list[str] = []
