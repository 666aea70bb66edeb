"""The proof harness: real processes, faults by seed, a witness outside all of them, and a judge that believes none."""
