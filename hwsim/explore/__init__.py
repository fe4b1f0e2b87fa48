"""Design spaces: every point exactly, the front, and what moves it (docs/contracts/sweep.md)."""
