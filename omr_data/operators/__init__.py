"""The steps of recipes, read as noun.Variant: rollout.Sample, verify.Answers, dedup.Exact."""
