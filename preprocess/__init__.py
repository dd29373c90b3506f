"""Raw dataset to sharded TFRecords: index, plan, write, commit (Apache Beam)."""
