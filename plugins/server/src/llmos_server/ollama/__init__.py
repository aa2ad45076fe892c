"""The routes of Ollama's API, so that its clients work."""
