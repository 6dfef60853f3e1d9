"""The sample set: drawn pictures with exact annotations."""
