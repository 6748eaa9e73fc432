"""How alike two texts or two pictures are, for millions of them: shingles, MinHash, perceptual hashes, components."""
