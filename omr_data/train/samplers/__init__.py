"""Where completions are sampled: by the policy itself, or by a server that has its weights."""
