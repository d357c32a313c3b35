"""What several test files start from."""

# The fields of the record of a prediction that holds.
RECORD = {
    "id": "example/sum",
    "statement": "One and one is two.",
    "source": "euclid",
    "kind": "test",
    "data": "synthetic",
    "fitted": "",
    "predicted": [2.0, 4.0],
    "measured": [2.001, 4.0],
    "error": 0.0005,
    "tolerance": 0.01,
    "relative": True,
    "holds": True,
}
