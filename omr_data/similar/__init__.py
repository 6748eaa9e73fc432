"""Similarity of texts and images at scale: shingles, MinHash, perceptual hashes, components."""
