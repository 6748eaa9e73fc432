"""How alike two texts or two images are, for millions of them: shingles, MinHash, perceptual hashes, components."""
