"""An LLM behind an API that speaks OpenAI's protocol: what is asked of it, how, at what price, and how it is read."""
