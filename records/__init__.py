"""What a shard is, and how shards become batches."""
