"""The log as mathematics: tree, tiles, notes, proofs. No SQL, no HTTP, no clock."""
